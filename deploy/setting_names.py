"""Every setting: its name, its default, and what it does.

deploy/settings.py reads them; deploy/docs/reference/settings.md is written from this table.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Setting:
    """name: what follows TASKBELL_, or TASKBELL_<PROVIDER>_.

    default: the value that stands for leaving it out; None where no value does, and `otherwise`
    says what then happens.
    """

    name: str
    default: str | None
    meaning: str
    otherwise: str = ""


GENERAL = (
    Setting("DATABASE_URL", "sqlite:///taskbell.db", "or `postgresql://user:pass@host/db`"),
    Setting(
        "DIRECT_DATABASE_URL",
        None,
        "where PostgreSQL is reached without a pooler, when `TASKBELL_DATABASE_URL` leads through one"
        " in transaction mode; for LISTEN/NOTIFY and migrations",
        otherwise="the database URL",
    ),
    Setting("HOST", "127.0.0.1", "where it listens"),
    Setting("PORT", "8000", "where it listens"),
    Setting(
        "PUBLIC_URL",
        "http://127.0.0.1:8000",
        "what callback URLs start with; with a path, everything lives below it; left out, it follows `TASKBELL_HOST` and `TASKBELL_PORT`",
    ),
    Setting(
        "SECRET_KEYS",
        None,
        "comma separated, oldest first, 32 characters or more each; they sign callback URLs and"
        " sessions, and encrypt stored secrets",
        otherwise="made on first start, kept beside the SQLite file; PostgreSQL needs it set",
    ),
    Setting(
        "API_KEY",
        None,
        "the first admin key, 32 characters or more; client commands use it too",
        otherwise="made on first start, shown once",
    ),
    Setting(
        "ALLOW_NETWORKS",
        None,
        "networks (CIDR, comma separated) that deliveries may reach though they are not public",
        otherwise="none; `serve --dev` adds this machine's own addresses",
    ),
    Setting("TASK_TIMEOUT_VIDEO_SECONDS", "7200", "how long a video is tracked"),
    Setting("TASK_TIMEOUT_IMAGE_SECONDS", "1800", "how long an image is tracked"),
    Setting(
        "RETRY_SCHEDULE",
        "5,300,1800,7200,18000,36000,50400,72000,86400",
        "seconds after each failed attempt at a delivery, ±20 %; 50 waits at most",
    ),
    Setting("ATTEMPT_TIMEOUT_SECONDS", "15", "for a whole attempt; 300 at most"),
    Setting("RETENTION_DAYS", "30", "ended tasks go then, with all their rows"),
    Setting(
        "ROLES",
        "receive,poll,dispatch",
        "what this process does; several processes need PostgreSQL",
    ),
    Setting(
        "PROVIDER_PROXY",
        None,
        "a proxy that providers are asked through: `http://user:password@proxy.example.com:3128`;"
        " `direct` for none",
        otherwise="`HTTPS_PROXY`, `HTTP_PROXY` or `ALL_PROXY`; hosts in `NO_PROXY` and on this machine"
        " are reached straight",
    ),
    Setting(
        "CA_FILE",
        None,
        "a file of certificate authorities (PEM) that providers may have beside the usual ones",
        otherwise="the usual ones, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR`",
    ),
    Setting(
        "URL",
        "http://127.0.0.1:8000",
        "where client commands find the server; left out, it follows `TASKBELL_HOST` and"
        " `TASKBELL_PORT`",
    ),
    Setting(
        "WEBHOOK_SECRET",
        None,
        "a `whsec_…` secret: `taskbell verify` checks with it, `listen` signs with it",
        otherwise="`verify` asks for it, `listen` makes one",
    ),
)

OF_A_PROVIDER = (
    Setting(
        "API_KEY",
        None,
        "the provider's key; it is asked nothing without one",
        otherwise="`<PROVIDER>_API_KEY`, the name that providers' own tools use",
    ),
    Setting(
        "BASE_URL",
        None,
        "another host of the provider's, or a proxy: `https://api.minimax.io` is MiniMax's global one",
        otherwise="the provider's own",
    ),
    Setting(
        "CONFIRM",
        "auto",
        "whether an unsigned ending waits until the provider itself says the same: `auto` does so"
        " with a key, `always` needs one, `never` believes it",
    ),
    Setting(
        "REQUESTS_PER_SECOND",
        None,
        "how often it may be asked, all processes together",
        otherwise="the provider's, below",
    ),
    Setting(
        "CONCURRENCY",
        None,
        "how many questions may be under way at once",
        otherwise="the provider's, below",
    ),
)
