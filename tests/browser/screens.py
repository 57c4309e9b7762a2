"""Where the screens are, each in the states that look different."""

from __future__ import annotations

from collections.abc import Callable

from tests.seed.scene import Scene

SCREENS: dict[str, Callable[[Scene], str]] = {
    "tasks": lambda _: "/",
    "tasks, none matches": lambda _: "/?q=nowhere&status=failed",
    "a task that runs": lambda scene: f"/tasks/{scene.tasks['slow']}",
    "a task that failed": lambda scene: f"/tasks/{scene.tasks['failed']}",
    "a task with outputs": lambda scene: f"/tasks/{scene.tasks['many outputs']}",
    "a hostile task": lambda scene: f"/tasks/{scene.tasks['hostile']}",
    "subscriptions": lambda _: "/subscriptions",
    "a subscription that failed": lambda scene: f"/subscriptions/{scene.subscriptions['crm']}",
    "a hostile subscription": lambda scene: f"/subscriptions/{scene.subscriptions['hostile']}",
    "deleting a subscription": lambda scene: (
        f"/subscriptions/{scene.subscriptions['slack']}/delete"
    ),
    "a new subscription": lambda _: "/subscriptions/new",
    "providers": lambda _: "/providers",
}
"""By what they are called in reports. Only for who signed in."""

OPEN_SCREENS = {"login": "/login", "a link that is used up": "/login?once=used"}
