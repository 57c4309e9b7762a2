"""Where the screens are, each in the states that look different."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tests.seed.scene import Scene

Where = Callable[[Scene], str]

SCREENS: Mapping[str, Mapping[str, Where]] = {
    "tasks": {
        "tasks": lambda _: "/",
        "none matches": lambda _: "/?q=nowhere&status=failed",
        "one that runs": lambda scene: f"/tasks/{scene.tasks['slow']}",
        "one that failed": lambda scene: f"/tasks/{scene.tasks['failed']}",
        "one with outputs": lambda scene: f"/tasks/{scene.tasks['many outputs']}",
        "a hostile one": lambda scene: f"/tasks/{scene.tasks['hostile']}",
    },
    "events": {
        "events": lambda _: "/events",
        "none matches": lambda _: "/events?type=task.timed_out&provider=minimax",
        "one that was pushed": lambda scene: f"/events/{scene.events['usual 3']}",
        "one that was polled": lambda scene: f"/events/{scene.events['failed in Chinese']}",
        "one of Taskbell's own": lambda scene: f"/events/{scene.events['delivery.dead']}",
        "a hostile one": lambda scene: f"/events/{scene.events['hostile']}",
    },
    "deliveries": {
        "deliveries": lambda _: "/deliveries",
        "dead letters": lambda _: "/deliveries?status=dead",
        "none matches": lambda scene: f"/deliveries?status=dead&subscription={_lake(scene)}",
        "one that is dead": lambda scene: f"/deliveries/{scene.deliveries['crm', 'dead']}",
        "one that waits": lambda scene: f"/deliveries/{scene.deliveries['crm', 'pending']}",
        "one that arrived": lambda scene: f"/deliveries/{scene.deliveries['hostile', 'delivered']}",
        "one canceled": lambda scene: f"/deliveries/{scene.deliveries['former', 'canceled']}",
        "a bulk replay": lambda scene: (
            f"/deliveries/replay?subscription={scene.subscriptions['crm']}"
        ),
    },
    "subscriptions": {
        "subscriptions": lambda _: "/subscriptions",
        "none matches": lambda _: "/subscriptions?q=nowhere&state=paused",
        "a healthy one": lambda scene: f"/subscriptions/{scene.subscriptions['pipeline']}",
        "a failing one": lambda scene: f"/subscriptions/{scene.subscriptions['crm']}",
        "a disabled one": lambda scene: f"/subscriptions/{scene.subscriptions['gone']}",
        "a chat": lambda scene: f"/subscriptions/{scene.subscriptions['slack']}",
        "a hostile one": lambda scene: f"/subscriptions/{scene.subscriptions['hostile']}",
        "deleting one": lambda scene: f"/subscriptions/{scene.subscriptions['crm']}/delete",
        "a new one": lambda _: "/subscriptions/new",
    },
    "providers": {"providers": lambda _: "/providers"},
}
"""By what they are called in reports. Only for who signed in."""

OPEN_SCREENS = {"login": "/login", "a link that is used up": "/login?once=used"}
LISTS = ("/", "/events", "/deliveries", "/deliveries?status=dead", "/subscriptions", "/providers")


def _lake(scene: Scene) -> str:
    return scene.subscriptions["lake"]
