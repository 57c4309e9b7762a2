"""The pages for people.

How to add a screen, here one called `things`:

1. The question: `store/things.py`, one bounded read on both engines (see store/tasklist.py).
2. The pages: `receiver/pages/things.py`, a dataclass whose `pages()` lists `Page(path, handler)`,
   as in tasks.py. A handler takes a `Visit`; it answers `visit.page("things.html", …)` or, behind
   a form, `visit.see_other("/things/…", "thing.retried")`. It reads the query with
   `visit.query(Model)`, an id of the path with `visit.id`.
3. What changes something is a call of the API: `await visit.act("delivery.retried")`, by the name
   that the audit has for it (receiver.endpoint.action_of). Scope, checks and audit come with it.
4. The templates: `templates/things.html` extends `_page.html` and imports `_parts.html`; forms are
   `parts.button(…)`, which carries the session's token. Foreign text goes through `parts.foreign`.
   What follows the events is within `<div id="live" …>` (tasks.html).
   Rows of a `list cards` are cards on phones: the head of a row, beside it its cell `first`, and
   then the others but for those with `nothing`.
5. The words: a table `[things]` in words/en.toml and words/zh.toml; `said.thing.retried` is what is
   said after an action. `nav.things` is there already, and so is its place in `frame.SCREENS`.
6. Join it: a line in deploy/pages.py.
"""
