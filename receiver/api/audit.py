"""The audit: who changed what through this API, and when."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from receiver.endpoint import Call, Endpoint, Reply
from receiver.models import AuditItem, AuditQuery, Page
from store.audit import list_audit
from store.keys import Scope
from store.store import Store


@dataclass(frozen=True, slots=True)
class AuditApi:
    store: Store

    def endpoints(self) -> list[Endpoint]:
        return [
            Endpoint(
                "GET",
                "/v1/audit",
                "List the changes made through this API, newest first",
                self.list,
                {200: Page[AuditItem]},
                Scope.ADMIN,
                query=AuditQuery,
            ),
        ]

    async def list(self, call: Call) -> Reply:
        query = call.query(AuditQuery)
        found = await self.store.read(
            list_audit,
            limit=query.limit + 1,
            before=query.cursor,
            action=query.action,
            object_id=query.object,
        )
        page = [AuditItem(**asdict(each)) for each in found[: query.limit]]
        cursor = page[-1].id if len(found) > query.limit else None
        return Reply(200, Page[AuditItem](data=page, next_cursor=cursor))
