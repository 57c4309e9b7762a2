"""Deliveries: what was sent, what waits, what died; and another try."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import AttemptItem, DeliveriesQuery, DeliveryDetail, DeliveryItem, Page
from store.deliveries import DeliveryView, get_delivery, list_deliveries, retry
from store.errors import NotFoundError
from store.keys import Scope
from store.store import Store


@dataclass(frozen=True, slots=True)
class DeliveryApi:
    store: Store

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/deliveries",
                "List deliveries, newest first",
                self.list,
                {200: Page[DeliveryItem]},
                query=DeliveriesQuery,
            ),
            Endpoint(
                "GET",
                "/v1/deliveries/{id}",
                "Show a delivery with its attempts",
                self.show,
                {200: DeliveryDetail},
                problems=(404,),
            ),
            Endpoint(
                "POST",
                "/v1/deliveries/{id}/retry",
                "Put a delivery that is not delivered back on the start of its schedule, due now",
                self.retry,
                {202: DeliveryDetail},
                Scope.WRITE,
                problems=(404, 409),
            ),
        ]

    async def list(self, call: Call) -> Reply:
        query = call.query(DeliveriesQuery)
        found = await self.store.read(
            list_deliveries,
            limit=query.limit + 1,
            before=query.cursor,
            status=query.status,
            subscription_id=query.subscription,
            event_id=query.event,
        )
        page = [DeliveryItem(**_fields(each)) for each in found[: query.limit]]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(200, Page[DeliveryItem](data=page, next_cursor=cursor))

    async def show(self, call: Call) -> Reply:
        return Reply(200, await self._detail(call.path["id"]))

    async def retry(self, call: Call) -> Reply:
        await call.write(self.store, retry, call.path["id"])
        return Reply(202, await self._detail(call.path["id"]))

    async def _detail(self, delivery_id: str) -> DeliveryDetail:
        found = await self.store.read(get_delivery, delivery_id)
        if found is None:
            raise NotFoundError("no such delivery")
        view, attempts = found
        log = [AttemptItem(**asdict(attempt)) for attempt in attempts]
        return DeliveryDetail(**_fields(view), attempts=log)


def _fields(view: DeliveryView) -> dict[str, Any]:
    return {
        "id": view.id,
        "event_id": view.event_id,
        "event_type": view.event_type,
        "subscription_id": view.subscription_id,
        "task_id": view.task_id,
        "status": view.status,
        "attempt_count": view.attempts,
        "last_error": view.last_error,
        "next_attempt_at": view.due_at if view.status == "pending" else None,
        "created_at": view.created_at,
        "finished_at": view.finished_at,
    }
