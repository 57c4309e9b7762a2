from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatch.headers import check_headers, with_custom


@pytest.mark.parametrize(
    "name",
    [
        # framing and hop-by-hop
        "Host",
        "Content-Length",
        "content-encoding",
        "Expect",
        "Proxy-Connection",
        "Proxy-Authenticate",
        # ours
        "User-Agent",
        "Accept-Encoding",
        "webhook-id",
        "Webhook-Signature",
        "WEBHOOK-ANYTHING",
        "ce-type",
        "CE-Extension",
        "Set-Cookie",
        # doors to metadata services
        "Metadata",
        "metadata-flavor",
        "X-aws-ec2-metadata-token-ttl-seconds",
        "X-Metadata-Token",
        "X-Google-Metadata-Request",
        "X-IDENTITY-HEADER",
        "X-aliyun-ecs-metadata-token",
        "X-Vault-Request",
        # a POST stays a POST
        "X-HTTP-Method-Override",
    ],
)
def test_names_that_are_not_the_users_are_refused_in_any_case(name: str) -> None:
    for spelling in (name, name.lower(), name.upper()):
        with pytest.raises(ValueError, match="may not be set"):
            check_headers({spelling: "x"})


ORIGINS = [
    "X-Edge-IP",
    "X-LB-Ip",
    "X-Geo-IP",
    "X-Gateway-IPv6",
    "X-Proxied-For",
    "X-BlueCoat-Via",
    "X-Replaced-Path",
    "X-Backend-Host",
    "X-Gateway-Host",
    "Origin-Host",
    "X-Upstream-Addr",
    "X-Country-Code",
    "X-Client-Geo-Location",
    "GeoIP-City",
    "Destination",
    "X-Sendfile",
    "X-Userinfo",
    "Tailscale-User-Login",
    "X-Pomerium-Claim-Email",
    "X-Consumer-Username",
    "X-Credential-Identifier",
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Forwarded-Port",
    "X-Forwarded-Server",
    "X-Forwarded-Prefix",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Forwarded-Email",
    "X-Forwarded-Client-Cert",
    "X-Forwarded-Ssl",
    "X-Forwarded-Scheme",
    "X-Forwarded-By",
    "X-Forwarded",
    "X-Forward-For",
    "Forwarded-For",
    "X-Real-IP",
    "X-Real-Port",
    "True-Client-IP",
    "X-True-Client-IP",
    "Client-IP",
    "X-Client-IP",
    "X-ClientIP",
    "X-Cluster-Client-IP",
    "CF-Connecting-IP",
    "CF-Connecting-IPv6",
    "CF-Visitor",
    "CF-IPCountry",
    "CF-Worker",
    "CF-Access-Jwt-Assertion",
    "Cf-Access-Authenticated-User-Email",
    "Fastly-Client-IP",
    "Fastly-SSL",
    "Fastly-FF",
    "Fly-Client-IP",
    "Fly-Forwarded-Port",
    "X-Original-URL",
    "X-Original-URI",
    "X-Original-Host",
    "X-Original-For",
    "X-Originating-IP",
    "X-Originating-URL",
    "X-Rewrite-URL",
    "X-Host",
    "X-Remote-IP",
    "X-Remote-Addr",
    "Remote-Addr",
    "X-Remote-User",
    "Remote-User",
    "X-ProxyUser-Ip",
    "Front-End-Https",
    "X-Url-Scheme",
    "X-Scheme",
    "X-ARR-SSL",
    "X-ARR-ClientCert",
    "X-Azure-ClientIP",
    "X-Azure-SocketIP",
    "X-Azure-FDID",
    "X-AppEngine-User-IP",
    "X-AppEngine-Cron",
    "X-Amzn-Oidc-Identity",
    "X-Amzn-Oidc-Data",
    "X-Amzn-Mtls-Clientcert",
    "CloudFront-Viewer-Address",
    "X-Envoy-External-Address",
    "X-Envoy-Internal",
    "X-Envoy-Original-Path",
    "X-NF-Client-Connection-IP",
    "X-Vercel-Forwarded-For",
    "X-Vercel-IP-Country",
    "DO-Connecting-IP",
    "Ali-CDN-Real-IP",
    "Incap-Client-IP",
    "X-Sucuri-ClientIP",
    "WL-Proxy-Client-IP",
    "Proxy-Client-IP",
    "X-Custom-IP-Authorization",
    "X-Source-IP",
    "Client-Cert",
    "Client-Cert-Chain",
    "X-SSL-Client-Verify",
    "SSL-Client-Cert",
    "X-Auth-Request-User",
    "X-WebAuth-User",
    "X-MS-Client-Principal-Id",
    "X-Goog-Authenticated-User-Email",
    "X-Goog-Iap-Jwt-Assertion",
    "X-Middleware-Subrequest",
    "CDN-Loop",
]


@pytest.mark.parametrize("name", ORIGINS)
def test_what_tells_where_a_request_came_from_is_refused_in_every_spelling(name: str) -> None:
    for spelling in (name, name.upper(), name.replace("-", "_"), name.lower().replace("-", ".")):
        with pytest.raises(ValueError, match=r"may not be set: ."):
            check_headers({spelling: "127.0.0.1"})
        assert with_custom({"webhook-id": "evt_1"}, {spelling: "127.0.0.1"}) == {
            "webhook-id": "evt_1"
        }


def test_a_refusal_says_why_and_what_to_do() -> None:
    with pytest.raises(
        ValueError,
        match=r"header X-Real-IP may not be set: servers take from it where a request came from"
        r".* use a name of your own, such as X-Team",
    ):
        check_headers({"X-Real-IP": "127.0.0.1"})


@pytest.mark.parametrize("name", ["Transfer_Encoding", "Content_Length", "X_HTTP_Method_Override"])
def test_what_frames_a_request_is_refused_in_the_spelling_of_cgi_too(name: str) -> None:
    with pytest.raises(ValueError, match="may not be set"):
        check_headers({name: "chunked"})


@pytest.mark.parametrize(
    "name",
    [
        *("CF-Access-Client-Id", "CF-Access-Client-Secret", "X-Vercel-Protection-Bypass"),
        *("X-Api-Key", "X-Hub-Signature", "X-Client-Id", "X-Source", "X-User-Id", "X-Customer"),
        *("X-Request-Id", "Origin", "X-Tenant-Host-Name", "X-Shipment", "X-Trip", "X-Team"),
    ],
)
def test_keys_and_names_of_ones_own_may_be_set(name: str) -> None:
    assert check_headers({name: "1"}) == {name: "1"}
    assert with_custom({}, {name: "1"}) == {name.lower(): "1"}


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": "Bearer hush"}, id="what most people add"),
        pytest.param({"X-Api-Key": "a b\"c'd"}, id="blanks and quotes inside"),
        pytest.param({"x": ""}, id="an empty value"),
        pytest.param({"n" * 64: "v" * 1024}, id="the longest of each"),
        pytest.param({f"x-{number}": "1" for number in range(20)}, id="twenty"),
        pytest.param({"cell": "1", "hosted": "1", "team": "1"}, id="names that begin like ours"),
        pytest.param({}, id="none"),
    ],
)
def test_ordinary_headers_pass_as_given(headers: dict[str, str]) -> None:
    assert check_headers(headers) == headers


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        pytest.param({f"x-{n}": "1" for n in range(21)}, "at most 20", id="twenty-one"),
        pytest.param({"n" * 65: "v"}, "64 characters", id="a long name"),
        pytest.param({"x": "v" * 1025}, "1024", id="a long value"),
        pytest.param({"X-A": "1", "x-a": "2"}, "twice", id="the same name in two cases"),
        pytest.param({"x": " padded"}, "blanks at its ends", id="leading blank"),
        pytest.param({"x": "padded\t"}, "blanks at its ends", id="trailing tab"),
        pytest.param({"x": "a\x7fb"}, "printable ASCII", id="DEL"),
        pytest.param({"x\n": "1"}, "not a header name", id="newline after the name"),
    ],
)
def test_the_limits_hold(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_headers(headers)


def test_a_refusal_does_not_quote_the_value() -> None:
    with pytest.raises(ValueError, match="Authorization") as caught:
        check_headers({"Authorization": "Bearer hush\n"})

    assert "hush" not in str(caught.value)


def test_a_refusal_does_not_quote_what_is_no_name() -> None:
    with pytest.raises(ValueError, match="header 2: that is not a header name") as caught:
        check_headers({"X-Team": "a", "Authorization: Bearer hush": ""})

    assert "hush" not in str(caught.value)


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=4))
def test_what_passes_cannot_break_out_of_its_line(headers: dict[str, str]) -> None:
    try:
        passed = check_headers(headers)
    except ValueError:
        return

    for name, value in passed.items():
        line = f"{name}: {value}"
        assert line.isascii()
        assert line.isprintable()
        assert name.strip() == name != ""
        assert ":" not in name


def test_ours_win_whatever_the_case() -> None:
    ours = {"webhook-id": "evt_1", "Content-Type": "application/json"}

    headers = with_custom(ours, {"WEBHOOK-ID": "forged", "content-type": "x", "X-Team": "a"})

    assert headers == {
        "webhook-id": "evt_1",
        "content-type": "application/json",
        "x-team": "a",
    }
