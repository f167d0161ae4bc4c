"""Made-up secrets of many shapes, and harmless texts that look like them. Nothing here was ever valid anywhere."""

import base64
import hashlib
import json
import random
import string
import uuid
from collections.abc import Callable

ALNUM = string.ascii_letters + string.digits
LOWER = string.ascii_lowercase + string.digits
UPPER = string.ascii_uppercase + string.digits
HEX = "0123456789abcdef"
URLSAFE = ALNUM + "-_"
BASE64 = ALNUM + "+/"
Draw = Callable[[random.Random], str]


def of(alphabet: str, count: int) -> Draw:
    return lambda rng: "".join(rng.choice(alphabet) for _ in range(count))


def after(prefix: str, rest: Draw) -> Draw:
    return lambda rng: prefix + rest(rng)


def joined(separator: str, *parts: Draw) -> Draw:
    return lambda rng: separator.join(part(rng) for part in parts)


def one_id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt(rng: random.Random) -> str:
    claims = {"sub": of(string.digits, 10)(rng), "iat": rng.randrange(10**9)}
    return ".".join([encoded({"alg": "HS256", "typ": "JWT"}), encoded(claims), of(URLSAFE, 43)(rng)])


def jwe(rng: random.Random) -> str:
    header = encoded({"alg": "RSA-OAEP", "enc": "A256GCM"})
    return ".".join([header, *(of(URLSAFE, count)(rng) for count in (342, 16, 90, 22))])


def block(kind: str, line_end: str = "\n", *, whole: bool = True, head: str = "") -> Draw:
    def draw(rng: random.Random) -> str:
        body = line_end.join(of(BASE64, 64)(rng) for _ in range(rng.randrange(3, 9)))
        begun = f"-----BEGIN {kind}-----{line_end}{head}{body}"
        return f"{begun}{line_end}-----END {kind}-----" if whole else begun

    return draw


def strong(rng: random.Random) -> str:
    """A password of letters, digits and signs that no quote, blank or URL ends."""
    return rng.choice(string.ascii_letters) + of(ALNUM + "!*-_", 10)(rng) + rng.choice(string.digits)


def chosen(rng: random.Random) -> str:
    """A password as people choose them."""
    return rng.choice(["hunter2", "Summer2024!", "P@ssw0rd1", "Tr0ub4dor&3", "g00d(bye)", "k{ey}99", "correct-horse-7"])


ANCHORED: dict[str, Draw] = {
    "anthropic": after("sk-ant-api03-", of(URLSAFE, 95)),
    "anthropic, admin": after("sk-ant-admin01-", of(URLSAFE, 95)),
    "openai": after("sk-proj-", joined("T3BlbkFJ", of(URLSAFE, 74), of(URLSAFE, 74))),
    "openai, service": after("sk-svcacct-", joined("T3BlbkFJ", of(URLSAFE, 58), of(URLSAFE, 58))),
    "openai, older": after("sk-", joined("T3BlbkFJ", of(ALNUM, 20), of(ALNUM, 20))),
    "openrouter": after("sk-or-v1-", of(HEX, 64)),
    "groq": after("gsk_", of(ALNUM, 52)),
    "xai": after("xai-", of(ALNUM, 80)),
    "perplexity": after("pplx-", of(ALNUM, 48)),
    "replicate": after("r8_", of(ALNUM, 37)),
    "huggingface": after("hf_", of(string.ascii_letters, 34)),
    "nvidia": after("nvapi-", of(URLSAFE, 64)),
    "langsmith": after("lsv2_pt_", joined("_", of(HEX, 32), of(HEX, 10))),
    "aws": after("AKIA", of(string.ascii_uppercase + "234567", 16)),
    "aws, session": after("ASIA", of(string.ascii_uppercase + "234567", 16)),
    "google": after("AIza", of(URLSAFE, 35)),
    "google client": after("GOCSPX-", of(URLSAFE, 28)),
    "google access": after("ya29.a0", of(URLSAFE, 150)),
    "azure": lambda rng: f"{of(ALNUM, 3)(rng)}8Q~{of(ALNUM + '-_.~', 34)(rng)}",
    "digitalocean": after("dop_v1_", of(HEX, 64)),
    "heroku": after("HRKU-AA", of(URLSAFE, 58)),
    "supabase": after("sbp_", of(HEX, 40)),
    "planetscale": after("pscale_tkn_", of(URLSAFE, 43)),
    "databricks": after("dapi", of(HEX, 32)),
    "doppler": after("dp.pt.", of(ALNUM, 43)),
    "vault": after("hvs.", of(URLSAFE, 90)),
    "terraform": joined(".atlasv1.", of(ALNUM, 14), of(URLSAFE, 67)),
    "fly": after("fm2_", of(BASE64, 120)),
    "github": after("ghp_", of(ALNUM, 36)),
    "github, app": after("ghs_", of(ALNUM, 36)),
    "github, fine-grained": after("github_pat_", joined("_", of(ALNUM, 22), of(ALNUM, 59))),
    "gitlab": after("glpat-", of(URLSAFE, 20)),
    "gitlab, routable": after("glpat-", joined(".", of(URLSAFE, 27), of(LOWER, 2), of(LOWER, 9))),
    "gitlab, deploy": after("gldt-", of(URLSAFE, 20)),
    "gitlab, trigger": after("glptt-", of(HEX, 40)),
    "atlassian": after("ATATT3xFfGF0", of(URLSAFE, 180)),
    "npm": after("npm_", of(ALNUM, 36)),
    "pypi": after("pypi-AgEIcHlwaS5vcmc", of(URLSAFE, 130)),
    "rubygems": after("rubygems_", of(HEX, 48)),
    "docker": after("dckr_pat_", of(URLSAFE, 27)),
    "postman": after("PMAK-", joined("-", of(HEX, 24), of(HEX, 34))),
    "grafana": after("glsa_", joined("_", of(ALNUM, 32), of(HEX, 8))),
    "newrelic": after("NRAK-", of(UPPER, 27)),
    "sentry": after("sntryu_", of(HEX, 64)),
    "slack": after("xoxb-", joined("-", of(string.digits, 12), of(string.digits, 12), of(ALNUM, 24))),
    "slack, app": after("xapp-1-A", joined("-", of(UPPER, 10), of(string.digits, 13), of(HEX, 64))),
    "telegram": joined(":AA", lambda rng: str(rng.randrange(10**8, 10**10)), of(URLSAFE, 33)),
    "discord": joined(".", after("M", of(ALNUM, 23)), of(URLSAFE, 6), of(URLSAFE, 38)),
    "twilio": after("SK", of(HEX, 32)),
    "sendgrid": after("SG.", joined(".", of(URLSAFE, 22), of(URLSAFE, 43))),
    "mailgun": after("key-", of(HEX, 32)),
    "mailchimp": lambda rng: f"{of(HEX, 32)(rng)}-us{rng.randrange(1, 22)}",
    "brevo": after("xkeysib-", joined("-", of(HEX, 64), of(ALNUM, 16))),
    "stripe": after("sk_live_", of(ALNUM, 24)),
    "stripe, restricted": after("rk_live_", of(ALNUM, 99)),
    "shopify": after("shpat_", of(HEX, 32)),
    "square": after("sq0atp-", of(URLSAFE, 22)),
    "linear": after("lin_api_", of(ALNUM, 40)),
    "notion": after("ntn_", joined("", of(string.digits, 11), of(ALNUM, 35))),
    "airtable": after("pat", joined(".", of(ALNUM, 14), of(HEX, 64))),
    "figma": after("figd_", of(URLSAFE, 40)),
    "age": after("AGE-SECRET-KEY-1", of("QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)),
    "jwt": jwt,
    "jwe": jwe,
    "private key": block("PRIVATE KEY"),
    "private key, rsa": block("RSA PRIVATE KEY", "\r\n"),
    "private key, encrypted": block("RSA PRIVATE KEY", head="Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,0F3A\n\n"),
    "private key, on one line": block("EC PRIVATE KEY", "\\n"),
    "private key, cut off": block("OPENSSH PRIVATE KEY", whole=False),
    "private key, pgp": block("PGP PRIVATE KEY BLOCK", head="Version: GnuPG v2\n\n"),
}
# The value alone is the secret: what it is assigned to stays.
NAMED: dict[str, tuple[str, Draw]] = {
    "url": ("postgres://shop:{}@db.example.org:5432/shop", strong),
    "url, no user": ("redis://:{}@cache:6379/0", strong),
    "url, driver": ("mysql+pymysql://root:{}@localhost/app", strong),
    "url, mongo": ("mongodb+srv://svc:{}@c0.example.net/?retryWrites=true", strong),
    "url, @ in it": ("ftp://ann:{}@h.example.org", after("p@", of(ALNUM, 8))),
    "url, token": ("git clone https://{}@git.example.org/a/b.git", of(HEX, 40)),
    "go": ("root:{}@tcp(127.0.0.1:3306)/app", strong),
    "azure storage": ("AccountName=shop;AccountKey={};EndpointSuffix=core.example.net", after("", of(BASE64, 86))),
    "slack webhook": ("https://hooks.slack.com/services/{}", joined("/", of(UPPER, 9), of(UPPER, 9), of(ALNUM, 24))),
    "password=": ("password={}", chosen),
    "json": ('{{"user": "ann", "password": "{}"}}', of(ALNUM + "!*-_ ", 14)),
    "json in a string": (r'"{{\"user\":\"ann\",\"password\":\"{}\"}}"', chosen),
    "env": ("export DB_PASSWORD='{}'", chosen),
    "dotenv": ("DB_USER=ann\nDB_PASS={}\nDB_HOST=h", chosen),
    "a word": ("PGPASSWORD={} psql -h db", lambda rng: rng.choice(["letmein", "sesame"])),
    "yaml": ("db:\n  user: ann\n  password: {}\n  host: h", chosen),
    "python": ('connect(host="h", user="u", password="{}")', chosen),
    "ruby": (":password => '{}'", chosen),
    "setter": ('factory.setPassword("{}");', chosen),
    "xml": ("<password>{}</password>", strong),
    "ado": ("Server=h;User Id=sa;Password={};Database=d", strong),
    "flag": ("mycli --user ann --password {} --host h", strong),
    "mysql": ("mysql -u root -p{} shop", strong),
    "sshpass": ("sshpass -p '{}' ssh ann@h", chosen),
    "curl": ("curl -u 'ann:{}' https://example.org", chosen),
    "sql": ("CREATE USER ann IDENTIFIED BY '{}';", chosen),
    "sql, role": ("ALTER ROLE shop WITH PASSWORD '{}';", chosen),
    "netrc": ("machine h login ann password {}", strong),
    "api key": ("api_key: {}", of(ALNUM, 32)),
    "api key, hexadecimal": ("DD_API_KEY={}", of(HEX, 32)),
    "api key, an id": ("HEROKU_API_KEY={}", one_id),
    "aws secret": ("aws_secret_access_key = {}", of(BASE64, 40)),
    "laravel": ("APP_KEY=base64:{}", of(BASE64, 43)),
    "header": ("X-Api-Key: {}", of(HEX, 40)),
    "bearer": ("curl -H 'Authorization: Bearer {}' https://api.example.org", of(ALNUM, 40)),
    "basic": ("Authorization: Basic {}", lambda rng: base64.b64encode(f"ann:{strong(rng)}".encode()).decode()),
    "prose": ("the token for the build server is {}, do not tell", of(HEX, 40)),
    "prose, password": ("the password for the staging database is {}, right?", strong),
    "prose, German": ("Das Passwort lautet {} und geht nicht", strong),
    "prose, Spanish": ("La contraseña es {}", strong),
    "prose, Chinese": ("密码是{}", of(ALNUM, 12)),
    "told": ("here is my secret from the console {}", of(ALNUM, 36)),
    "told, below": ("Here is my API key:\n\n```\n{}\n```", of(ALNUM, 36)),
}
SENTENCES = (
    *("{}", "Why does {} not work?", "I set it to {}\nand restarted", "key = '{}',", "see:{}.", "<{}>", "`{}` is refused"),
    *("({})", "**{}**", "_{}_", "密钥是{}，为什么？", "log: \\n{}\\n", "https://example.org/?q={}", "foo={}&bar=1", "“{}”"),
)


def word(rng: random.Random) -> str:
    return rng.choice("user order build cache page report image server client field index parser worker session".split())


def phrase(*texts: str) -> Draw:
    return lambda rng: rng.choice(texts).format(w=word(rng), n=rng.randrange(1000))


LOOK_ALIKES: dict[str, Draw] = {
    "sha256": lambda rng: f"the image digest is sha256:{hashlib.sha256(rng.randbytes(8)).hexdigest()}",
    "checksum": lambda rng: f"{of(HEX, 32)(rng)}  {word(rng)}.iso",
    "integrity": lambda rng: f'"integrity": "sha512-{of(BASE64, 86)(rng)}=="',
    "commit": lambda rng: f"git revert {of(HEX, 40)(rng)} breaks the build",
    "commit told": lambda rng: f"Fix token refresh (see commit {of(HEX, 40)(rng)})",
    "short commit": lambda rng: f"since {of(HEX, 7)(rng)} it fails",
    "uuid": lambda rng: f"order {one_id(rng)} is late",
    "uuid told": lambda rng: f"token id: {one_id(rng)}",
    "key id": lambda rng: f'"kms_key_id": "{one_id(rng)}"',
    "address": lambda rng: f"send the token to 0x{of(HEX, 40)(rng)}",
    "arn": lambda rng: f"arn:aws:secretsmanager:eu-west-1:{of(string.digits, 12)(rng)}:secret:prod/db-{of(ALNUM, 6)(rng)}",
    "base64 picture": lambda rng: f"data:image/png;base64,{of(BASE64, 64)(rng)}",
    "public key": lambda rng: block("PUBLIC KEY")(rng),
    "certificate": lambda rng: block("CERTIFICATE")(rng),
    "ssh key": lambda rng: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{of(BASE64, 43)(rng)} ann@h",
    "fingerprint": lambda rng: f"The key fingerprint is SHA256:{of(BASE64, 43)(rng)} ann@h",
    "block named": phrase("What does -----BEGIN PRIVATE KEY----- mean, {w} {n}?", "grep -r 'BEGIN RSA PRIVATE KEY' {w}{n}"),
    "code": phrase(
        "password = os.environ['DB_{w}']",
        "password = input()  # {w}",
        "password = getpass.getpass('{w} password: ')",
        "def check_password(password: str, {w}={n}):",
        "password = models.CharField(max_length={n})",
        "password = hashlib.sha256(raw_{w}).hexdigest()",
        "User(username={w}, password=password1)",
        "token = tokens[{n}]",
        "token = get_token(user_{w})",
        "token: Optional[str] = None  # {w} {n}",
        "api_key = settings.{w}_API_KEY",
        "const token = localStorage.getItem('{w}Token');",
        "password: Joi.string().min({n}).required(),",
        "access_token_url='https://login.example.org/oauth2/v2/{w}'",
        "!function(e){{var n=e.password,r=t.token;return{{password:n,{w}:r}}}}(window);",
        '{{"password": "string", "token": "string", "{w}": {n}}}',
        'password := os.Getenv("{w}")',
        "char password[{n}];",
    ),
    "shell": lambda rng: f"export API_KEY=${{{of(string.ascii_uppercase, 8)(rng)}}}",
    "sql": phrase("CREATE TABLE {w} (id INT PRIMARY KEY, password VARCHAR({n}) NOT NULL)", "SELECT password FROM {w}{n}"),
    "placeholder": phrase(
        "set api_key: your-{w}-key-here",
        "OPENAI_API_KEY=sk-...",
        "api_key=<YOUR_{w}_KEY>",
        "password: changeme",
        "password=xxxxxxxx",
        "token: ${{{{ secrets.TOKEN_{n} }}}}",
        "https://{w}:<password>@host/",
        "postgres://{{user}}:{{password}}@{{host}}/{w}",
        "Authorization: Bearer <token>",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        "sk-ant-your-key-goes-here-{w}",
        "--password PASSWORD  the password of the {w}",
    ),
    "prose": phrase(
        "The password is required for user {n}",
        "The password is case-sensitive, {w}.",
        "Is the password SHA-256 hashed in {w}?",
        "The {w} password is base64-encoded first.",
        "A password is {n} characters long",
        "How do I reset the password of account {n}?",
        "Das Passwort ist falsch, {w} {n}.",
        "La contraseña es incorrecta para {w}",
        "パスワードは8文字以上です {n}",
        "token expires at 2024-01-15T10:00:00Z in {w}",
    ),
    "url": lambda rng: f"https://example.org:{rng.randrange(1000, 9999)}/{of(ALNUM, 12)(rng)}?page={rng.randrange(99)}",
    "port": phrase("http://host:8080/@{w}", "http://localhost:{n}/users/a@b.example", "ssh://git@example.org:22/{w}@v{n}"),
    "mail": phrase("ssh://git@example.org/{w}.git", "git@example.org:{w}/{w}.git"),
    "path": lambda rng: f"/usr/lib/python3.11/site-packages/{of(string.ascii_lowercase, 20)(rng)}/secrets/token.py",
    "identifier": lambda rng: f"class {of(string.ascii_letters, 24)(rng)}TokenFactory2: pass",
    "kebab": phrase("sk-learn-{w}-{w} and task-{w}-{w}", "sk-proj-management-and-planning-{w}", "secret-{w}-operator-v2"),
    "number": lambda rng: f"token count: {rng.randrange(10**6)}, budget {rng.randrange(10**12)}",
    "settings": phrase("password_min_length = {n}\npassword_max_age=90d\ntoken_type: bearer", "api_key_file: /etc/{w}.key"),
    "sum": lambda rng: f"What is {rng.randrange(100)} + {rng.randrange(100)}?",
}


def corpus(count: int) -> list[tuple[str, str, str]]:
    """(shape, secret, the text that holds it)."""
    rng = random.Random(11)
    shapes: list[tuple[str, Draw, tuple[str, ...]]] = [(name, draw, SENTENCES) for name, draw in ANCHORED.items()]
    shapes += [(name, draw, (template,)) for name, (template, draw) in NAMED.items()]
    found = []
    for n in range(count):
        name, draw, sentences = shapes[n % len(shapes)]
        secret = draw(rng)
        found.append((name, secret, rng.choice(sentences).format(secret)))
    return found


def look_alikes(count: int) -> list[tuple[str, str]]:
    """(kind, the text)."""
    rng = random.Random(12)
    names = list(LOOK_ALIKES)
    return [(names[n % len(names)], LOOK_ALIKES[names[n % len(names)]](rng)) for n in range(count)]
