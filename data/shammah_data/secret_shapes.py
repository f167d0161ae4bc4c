"""Credentials that are known by their form: prefixes, blocks, tokens in parts. Knows shapes, not the words around them."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

MARK = "[secret:{}]"


@dataclass(frozen=True)
class _Shape:
    """A credential that is known by its form; the pattern is only tried where one of the literals occurs."""

    kind: str
    literals: tuple[str, ...]
    pattern: re.Pattern[str]


def _shape(kind: str, literals: str, pattern: str) -> _Shape:
    return _Shape(kind, tuple(literals.split()), re.compile(pattern))


# An underscore behind may be markup.
_END = r"(?![A-Za-z0-9]|_[A-Za-z0-9])"
_ID = r"[A-Za-z0-9_-]"
_BEGINS = r"(?:(?<![A-Za-z0-9]eyJ)|(?<=\\[nrt]eyJ)|(?<=%[0-9A-F]{2}eyJ))"
_AN = r"[A-Za-z0-9]"
_HEX = r"[0-9a-f]"
_UUID = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

# A pattern starts with its literal, which the search then jumps to. What stands in `keep` stays in the text.
_SHAPES = (
    _shape("age-key", "AGE-SECRET-KEY-", r"AGE-SECRET-KEY-1[A-Z0-9]{50,}"),
    _shape("private-key", "b3BlbnNzaC1rZXktdjE", r"b3BlbnNzaC1rZXktdjE[A-Za-z0-9+/=]{20,}"),
    _shape("private-key", "Private-Lines:", r"(?P<keep>Private-Lines: \d{1,3})(?:\s+[A-Za-z0-9+/]{16,}={0,2})+"),
    # Models.
    _shape("anthropic-key", "sk-ant-", rf"sk-ant-{_ID}{{16,}}"),
    _shape("openrouter-key", "sk-or-", rf"sk-or-{_ID}{{16,}}"),
    _shape("langfuse-key", "sk-lf-", rf"sk-lf-{_UUID}"),
    _shape("openai-key", "sk-", rf"sk-(?:(?:proj|svcacct|admin|None)-{_ID}{{20,}}|{_AN}{{32,}}{_END})"),
    _shape("api-key", "sk-", rf"sk-(?={_ID}{{0,64}}?\d)(?={_ID}{{0,64}}?[A-Z]){_ID}{{20,64}}{_END}"),
    _shape("groq-key", "gsk_", rf"gsk_{_AN}{{40,}}"),
    _shape("xai-key", "xai-", rf"xai-{_AN}{{40,}}"),
    _shape("perplexity-key", "pplx-", rf"pplx-{_AN}{{40,}}"),
    _shape("replicate-token", "r8_", rf"r8_{_AN}{{30,}}"),
    _shape("huggingface-token", "hf_ api_org_", rf"(?:hf|api_org)_{_AN}{{30,}}"),
    _shape("fireworks-key", "fw_", rf"fw_{_AN}{{22,}}{_END}"),
    _shape("nvidia-key", "nvapi-", rf"nvapi-{_ID}{{40,}}"),
    _shape("cerebras-key", "csk-", rf"csk-{_AN}{{40,}}"),
    _shape("together-key", "tgp_v1_", rf"tgp_v1_{_ID}{{30,}}"),
    _shape("voyage-key", "pa-", rf"pa-(?={_ID}{{0,43}}?\d)(?={_ID}{{0,43}}?[A-Z]){_ID}{{43}}{_END}"),
    _shape("elevenlabs-key", "sk_", rf"sk_{_HEX}{{48}}{_END}"),
    _shape("langsmith-key", "lsv2_", rf"lsv2_(?:pt|sk)_{_HEX}{{32}}_{_HEX}{{10}}"),
    _shape("tavily-key", "tvly-", rf"tvly-(?:dev-|prod-)?{_ID}{{20,}}"),
    _shape("pinecone-key", "pcsk_", r"pcsk_[A-Za-z0-9_]{40,}"),
    _shape("jina-key", "jina_", rf"jina_{_HEX}{{32}}{_ID}{{20,}}"),
    _shape("firecrawl-key", "fc-", rf"fc-{_HEX}{{32}}{_END}"),
    _shape("apify-token", "apify_api_", rf"apify_api_{_AN}{{30,}}"),
    # Clouds and hosts.
    _shape("aws-key-id", "AKIA ASIA ABIA ACCA", rf"A(?:KI|SI|BI|CC)A[A-Z0-9]{{16}}{_END}"),
    _shape("aws-bedrock-key", "ABSK", r"ABSK[A-Za-z0-9+/]{90,}={0,2}"),
    _shape("aws-signature", "X-Amz-Signature=", rf"(?P<keep>X-Amz-Signature=){_HEX}{{64}}"),
    _shape("google-key", "AIza", rf"AIza{_ID}{{35}}"),
    _shape("google-token", "ya29.", rf"ya29\.{_ID}{{20,}}"),
    _shape("google-token", "GOCSPX-", rf"GOCSPX-{_ID}{{28}}"),
    _shape("google-token", "1//0", rf"1//0{_ID}{{40,}}"),
    _shape("azure-key", "AccountKey= SharedAccessKey=", r"(?P<keep>(?:Account|SharedAccess)Key=)[A-Za-z0-9+/]{40,}={0,2}"),
    _shape("azure-signature", "sig=", r"(?P<keep>(?:^|[?&;])sig=)[A-Za-z0-9%+/]{40,}={0,2}"),
    _shape("azure-secret", "Q~", r"[A-Za-z0-9_~.]{3}\dQ~[A-Za-z0-9_~.-]{31,34}"),
    _shape("alibaba-key", "LTAI", rf"LTAI{_AN}{{20}}{_END}"),
    _shape("yandex-key", "AQVN", rf"AQVN{_ID}{{35,38}}{_END}"),
    _shape("digitalocean-token", "dop_v1_ doo_v1_ dor_v1_", rf"do[opr]_v1_{_HEX}{{64}}"),
    _shape("heroku-key", "HRKU-", rf"HRKU-AA{_ID}{{50,}}"),
    _shape("cloudflare-key", "v1.0-", rf"v1\.0-{_HEX}{{24}}-{_HEX}{{100,}}"),
    _shape("netlify-token", "nfp_", rf"nfp_{_AN}{{30,}}"),
    _shape("vercel-token", "vcp_ vercel_blob_rw_", r"(?:vcp|vercel_blob_rw)_[A-Za-z0-9_]{24,}"),
    _shape("supabase-key", "sbp_ sb_secret_", rf"(?:sbp_{_HEX}{{40}}|sb_secret_{_ID}{{20,}})"),
    _shape("render-key", "rnd_", rf"rnd_{_AN}{{28,}}{_END}"),
    _shape("fly-token", "fo1_ fm1a_ fm1r_ fm2_", rf"f(?:o1_{_ID}{{40,}}|m(?:1[ar]|2)_[A-Za-z0-9+/]{{80,}}={{0,3}})"),
    _shape("planetscale-token", "pscale_", r"pscale_(?:tkn|pw|oauth)_[A-Za-z0-9_.=-]{32,}"),
    _shape("databricks-token", "dapi", rf"dapi{_HEX}{{32}}(?:-\d)?"),
    _shape("doppler-token", "dp.", rf"dp\.(?:pt|st|ct|sa|scim|audit)\.(?:[a-z0-9_-]{{2,35}}\.)?{_AN}{{40,44}}"),
    _shape("vault-token", "hvs. hvb. hvr.", rf"hv[sbr]\.{_ID}{{24,}}"),
    _shape("terraform-token", ".atlasv1.", rf"{_AN}{{14}}\.atlasv1\.[A-Za-z0-9_=-]{{60,70}}"),
    _shape("pulumi-token", "pul-", rf"pul-{_HEX}{{40}}"),
    _shape("openshift-token", "sha256~", rf"sha256~{_ID}{{43}}"),
    _shape("tailscale-key", "tskey-", r"tskey-[a-z]{2,12}-[A-Za-z0-9-]{20,}"),
    # Code, packages, builds.
    _shape("github-token", "ghp_ gho_ ghu_ ghs_ ghr_", rf"gh[pousr]_{_AN}{{30,}}"),
    _shape("github-token", "github_pat_", r"github_pat_[A-Za-z0-9_]{22,}"),
    _shape("gitlab-token", "glpat- glrt-", rf"gl(?:pat|rt)-{_ID}{{20,}}(?:\.[0-9a-z]{{2}}\.?[0-9a-z]{{7,9}})?"),
    _shape(
        "gitlab-token",
        "gldt- glft- glptt- glcbt- glimt- gloas- glsoat- glffct- glagent-",
        rf"gl(?:dt|ft|ptt|cbt|imt|oas|soat|ffct|agent)-{_ID}{{20,}}",
    ),
    _shape("gitlab-token", "GR1348941", rf"GR1348941{_ID}{{20,}}"),
    _shape("bitbucket-password", "ATBB", rf"ATBB{_AN}{{32}}{_END}"),
    _shape("atlassian-token", "ATATT3 ATCTT3", r"AT[AC]TT3[A-Za-z0-9_=-]{50,}"),
    _shape("npm-token", "npm_", rf"npm_{_AN}{{36}}"),
    _shape("pypi-token", "pypi-", rf"pypi-{_ID}{{50,}}"),
    _shape("rubygems-key", "rubygems_", rf"rubygems_{_HEX}{{48}}"),
    _shape("crates-token", "cio", rf"cio(?=[A-Za-z]{{0,32}}\d){_AN}{{32}}{_END}"),
    _shape("clojars-token", "CLOJARS_", rf"CLOJARS_{_AN}{{60}}"),
    _shape("nuget-key", "oy2", rf"oy2[a-z0-9]{{43}}{_END}"),
    _shape("docker-token", "dckr_pat_ dckr_oat_", rf"dckr_[po]at_{_ID}{{20,}}"),
    _shape("artifactory-key", "AKCp cmVmd", rf"(?:AKCp{_AN}{{69}}|cmVmd{_AN}{{59}}){_END}"),
    _shape("sonar-token", "squ_ sqp_ sqa_", rf"sq[upa]_{_HEX}{{40}}"),
    _shape("sourcegraph-token", "sgp_", rf"sgp_(?:(?:{_HEX}{{16}}|local)_)?{_HEX}{{40}}"),
    _shape("buildkite-token", "bkua_", rf"bkua_{_HEX}{{40}}"),
    _shape("harness-key", "pat. sat.", rf"[ps]at\.{_ID}{{22}}\.{_AN}{{24}}\.{_AN}{{20}}"),
    _shape("octopus-key", "API-", rf"API-[A-Z0-9]{{26}}{_END}"),
    _shape("prefect-key", "pnu_", rf"pnu_{_AN}{{36}}"),
    _shape("infracost-key", "ico-", rf"ico-{_AN}{{32}}{_END}"),
    _shape("postman-key", "PMAK-", rf"PMAK-{_HEX}{{24}}-{_HEX}{{34}}"),
    _shape("launchdarkly-key", "sdk- api-", rf"(?:sdk|api)-{_UUID}"),
    # Watching.
    _shape("grafana-token", "glsa_ glc_", r"gl(?:sa|c)_[A-Za-z0-9_+/=]{30,}"),
    _shape("grafana-token", "eyJrIjoi", r"eyJrIjoi[A-Za-z0-9+/]{40,}={0,2}"),
    _shape("newrelic-key", "NRAK- NRII- NRJS-", rf"NR(?:AK|II|JS)-{_ID}{{19,}}"),
    _shape("newrelic-key", "NRAL", rf"{_HEX}{{36}}NRAL"),
    _shape("sentry-token", "sntrys_ sntryu_", rf"sntry(?:s_eyJ[A-Za-z0-9+/=_-]{{40,}}|u_{_HEX}{{64}})"),
    _shape("dynatrace-token", "dt0c01. dt0s", r"dt0[a-z]\d\d\.[A-Z0-9]{24}\.[A-Z0-9]{64}"),
    _shape("posthog-key", "phx_", rf"phx_{_AN}{{30,}}"),
    # Messages and mail.
    _shape("slack-token", "xox", r"xox[abcdeoprs][.-][A-Za-z0-9%/+=.-]{10,}"),
    _shape("slack-token", "xapp-", r"xapp-[A-Za-z0-9-]{10,}"),
    _shape(
        "webhook",
        "hooks.slack.com/",
        r"(?P<keep>hooks\.slack\.com/(?:services|workflows|triggers)/)(?=[^\s\"'<>]{0,99}?\d)[A-Za-z0-9+/]{20,}",
    ),
    _shape("webhook", "/api/webhooks/", rf"(?P<keep>/api/webhooks/\d{{15,20}}/){_ID}{{40,}}"),
    _shape(
        "webhook",
        ".webhook.office.com/ hooks.zapier.com/",
        r"(?P<keep>(?:\.webhook\.office\.com/webhookb2|hooks\.zapier\.com/hooks/catch)/)(?=[^\s\"'<>]{0,99}?\d)[A-Za-z0-9@/-]{12,}",
    ),
    _shape("webhook-secret", "whsec_", r"whsec_[A-Za-z0-9+/=]{20,}"),
    _shape("telegram-token", ":A", rf"(?:bot)?\d{{8,10}}:A{_ID}{{34}}"),
    _shape("discord-token", ".", rf"[MNO]{_ID}{{23,27}}\.{_ID}{{6}}\.{_ID}{{27,}}"),
    _shape("twilio-key", "SK", rf"SK[0-9a-fA-F]{{32}}{_END}"),
    _shape("sendgrid-key", "SG.", rf"SG\.{_ID}{{16,}}\.{_ID}{{30,}}"),
    _shape("mailgun-key", "key-", rf"key-{_HEX}{{32}}{_END}"),
    _shape("mailgun-key", "-", rf"{_HEX}{{32}}-{_HEX}{{8}}-{_HEX}{{8}}(?![A-Za-z0-9-])"),
    _shape("mailchimp-key", "-us", rf"{_HEX}{{32}}-us\d{{1,2}}{_END}"),
    _shape("mandrill-key", "md-", rf"md-(?={_ID}{{0,22}}?[A-Z]){_ID}{{22}}{_END}"),
    _shape("brevo-key", "xkeysib- xsmtpsib-", rf"x(?:key|smtp)sib-{_HEX}{{64}}-{_AN}{{16}}"),
    _shape("resend-key", "re_", rf"re_(?={_ID}{{0,33}}?\d){_AN}{{8}}_{_AN}{{24}}{_END}"),
    # Trade.
    _shape("stripe-key", "sk_ rk_", rf"[sr]k_(?:live|test|prod)_{_AN}{{16,}}"),
    _shape("shopify-token", "shpat_ shpca_ shppa_ shpss_", r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    _shape("square-token", "sq0atp- sq0csp-", rf"sq0(?:atp|csp)-{_ID}{{22,}}"),
    _shape("access-token", "EAA", rf"EAA{_ID}{{56,}}"),
    _shape("plaid-token", "access-", rf"access-(?:sandbox|development|production)-{_UUID}"),
    _shape("easypost-key", "EZAK EZTK", rf"EZ[AT]K{_AN}{{54}}"),
    _shape("shippo-token", "shippo_", r"shippo_(?:live|test)_[0-9a-fA-F]{40}"),
    _shape("duffel-token", "duffel_", r"duffel_(?:live|test)_[A-Za-z0-9_=-]{43}"),
    _shape("flutterwave-key", "FLWSECK", rf"FLWSECK(?:_TEST)?-{_AN}{{12,}}(?:-X)?"),
    # Work.
    _shape("linear-key", "lin_api_ lin_oauth_", rf"lin_(?:api|oauth)_{_AN}{{32,}}"),
    _shape("notion-token", "ntn_ secret_", rf"(?:ntn|secret)_{_AN}{{40,}}"),
    _shape("airtable-token", "pat", rf"pat{_AN}{{14}}\.{_HEX}{{64}}"),
    _shape("asana-token", "0/ 1/ 2/", rf"[0-2]/\d{{10,}}(?:/\d{{10,}})?:{_HEX}{{32}}"),
    _shape("figma-token", "figd_", rf"figd_{_ID}{{30,}}"),
    _shape("frameio-token", "fio-u-", rf"fio-u-{_ID}{{60,}}"),
    _shape("typeform-token", "tfp_", rf"tfp_{_ID}{{40,}}"),
    _shape("contentful-token", "CFPAT-", rf"CFPAT-{_ID}{{40,}}"),
    _shape("hubspot-token", "pat-", rf"pat-(?:na|eu)\d-{_UUID}"),
    _shape("dropbox-token", "sl.", rf"sl\.{_ID}{{100,}}"),
    _shape("adobe-secret", "p8e-", rf"p8e-{_AN}{{32}}"),
    _shape("readme-key", "rdme_", r"rdme_[a-z0-9]{60,}"),
    _shape("maxmind-key", "_mmk", rf"{_AN}{{6}}_{_AN}{{29}}_mmk"),
    _shape("mapbox-token", "sk.eyJ", rf"sk\.eyJ{_ID}{{20,}}\.{_ID}{{20,}}"),
    _shape("onepassword-key", "A3-", rf"A3-[A-Z0-9]{{6}}(?:-[A-Z0-9]{{5,11}}){{4,5}}{_END}"),
    _shape("onepassword-key", "ops_eyJ", r"ops_eyJ[A-Za-z0-9+/_-]{100,}={0,3}"),
    _shape(
        "authress-key",
        ".acc_ .acc-",
        r"(?:sc|ext|scauth|authress)_[a-z0-9]{5,30}\.[a-z0-9]{4,6}\.acc[_-][a-z0-9-]{10,32}\.[A-Za-z0-9+/_=-]{30,}",
    ),
    # Only where a word begins, for each of many in one run would look to its end.
    # Three parts signed, five encrypted; cut after two of them it still tells what its owner is.
    _shape("jwt", "eyJ", rf"eyJ{_BEGINS}{_ID}{{8,}}+\.eyJ{_ID}{{8,}}(?:\.{_ID}*={{0,2}}){{0,3}}"),
    _shape("jwt", "eyJ", rf"eyJ{_BEGINS}{_ID}{{14,}}+(?:\.{_ID}*+){{0,2}}\.{_ID}*+\.{_ID}{{10,}}"),
    _shape("jwt", "ZXlK", r"ZXlK[A-Za-z0-9+/]{40,}={0,2}"),
)
_BY_LITERAL = tuple((literal, shape) for shape in _SHAPES for literal in shape.literals)

_KEY_EDGE = re.compile(r"-{4,5} ?(?P<edge>BEGIN|END) [A-Z0-9 _-]{0,40}?PRIVATE KEY(?: BLOCK)? ?-{4,5}")
# What follows a block that was cut off: headers, then rows of base64, on lines or with written line ends.
_KEY_BODY = re.compile(
    r"(?:(?:\s|\\r|\\n)+[A-Z][A-Za-z-]{2,20}: [^\n\\]{1,80})*(?:(?:[\s>\"'+,]|\\r|\\n){1,80}[A-Za-z0-9+/]{16,}={0,2})*"
    r"(?:(?:\r?\n|\\n|\\r\\n)\s*=?[A-Za-z0-9+/]{2,}={0,2}(?=\s*(?:\.\.\.|…|[\"'`]|$)))?",
)
_SHORTEST, _MORE = 16, re.compile(r"[0-9_-]")
_PLACEHOLDER = re.compile(r"x{6,}|your[-_]|[-_](?:here|goes)\b|\.{3}", re.IGNORECASE)
# Names of things are put together of such words too.
_WORDS = re.compile(r"[a-z]{1,15}(?:[-_.][a-z]{1,15})+|[A-Z]{1,15}(?:[-_][A-Z]{1,15})+")


def mark_shapes(text: str) -> str:
    """The text with each credential of a known form replaced by its mark."""
    if "PRIVATE KEY" in text:
        text = _mark_private_keys(text)
    # What a row costs: most hold no long word that is more than small letters, and most of the others none of the literals.
    words = [word for word in text.split() if len(word) >= _SHORTEST]
    if not any(word != word.lower() or _MORE.search(word) for word in words):
        return text
    for literal, shape in _BY_LITERAL:
        if literal in text:
            text = shape.pattern.sub(_marked(shape.kind), text)
    return text


def _marked(kind: str) -> Callable[[re.Match[str]], str]:
    def replaced(match: re.Match[str]) -> str:
        keep = match.groupdict().get("keep", "")
        if not keep and _inside_a_word(match.string, match.start()):
            return match[0]
        body = match[0][len(keep) :]
        return match[0] if _PLACEHOLDER.search(body) or _WORDS.fullmatch(body) else keep + MARK.format(kind)

    return replaced


def _inside_a_word(text: str, at: int) -> bool:
    """Whether a letter or digit stands before, which a written line end (`\\n`) or `%20` is not."""
    before = text[max(0, at - 3) : at]
    if not before or not (before[-1].isascii() and before[-1].isalnum()):
        return False
    return not (before[-2:] in {"\\n", "\\r", "\\t"} or (len(before) == 3 and before[0] == "%"))


def _mark_private_keys(text: str) -> str:
    parts, at = [], 0
    edges = list(_KEY_EDGE.finditer(text))
    for edge, following in zip_longest(edges, edges[1:]):
        if edge is None or edge["edge"] == "END" or edge.start() < at:
            continue
        if following is not None and following["edge"] == "END":
            body = text[edge.end() : following.start()]
            # A sentence that names both lines holds no key.
            end = following.end() if "\n" in body or "\\n" in body or re.search(r"[A-Za-z0-9+/]{16}", body) else at
        else:
            match = _KEY_BODY.match(text, edge.end())
            end = match.end() if match else edge.end()
            end = end if end > edge.end() else at
        if end > at:
            parts += [text[at : edge.start()], MARK.format("private-key")]
            at = end
    return "".join([*parts, text[at:]])
