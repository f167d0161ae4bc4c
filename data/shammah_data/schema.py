"""The log's tables, as numbered migrations applied once each. Times are UTC. Knows SQL, not rows."""

MIGRATIONS: tuple[str, ...] = (
    r"""
    CREATE TABLE exchanges (
        id UUID PRIMARY KEY,
        created_at TIMESTAMP NOT NULL,
        logged_at TIMESTAMP NOT NULL,
        session VARCHAR NOT NULL,
        turn INTEGER NOT NULL,
        query VARCHAR NOT NULL,
        context VARCHAR NOT NULL,
        answer VARCHAR NOT NULL,
        tier VARCHAR NOT NULL,
        source VARCHAR NOT NULL,
        model_version VARCHAR,
        teacher_model VARCHAR,
        complete BOOLEAN NOT NULL,
        trainable BOOLEAN NOT NULL,
        confidence DOUBLE,
        latency_ms DOUBLE,
        prompt_tokens INTEGER,
        answer_tokens INTEGER,
        cost_usd DOUBLE,
        teacher_probability DOUBLE
    );
    CREATE TABLE attempts (
        exchange_id UUID NOT NULL,
        position INTEGER NOT NULL,
        tier VARCHAR NOT NULL,
        outcome VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        confidence DOUBLE,
        threshold DOUBLE,
        latency_ms DOUBLE NOT NULL,
        PRIMARY KEY (exchange_id, position)
    );
    CREATE TABLE feedback (
        id UUID PRIMARY KEY,
        exchange_id UUID NOT NULL,
        created_at TIMESTAMP NOT NULL,
        rating VARCHAR NOT NULL,
        weight DOUBLE NOT NULL,
        correction VARCHAR
    );
    CREATE TABLE runs (
        id VARCHAR PRIMARY KEY,
        started TIMESTAMP NOT NULL,
        finished TIMESTAMP NOT NULL,
        status VARCHAR NOT NULL,
        reason VARCHAR NOT NULL,
        version VARCHAR,
        figures VARCHAR NOT NULL
    );
    -- The last word on an exchange wins: a correction is its answer, the newest rating its rating.
    CREATE VIEW rated AS
        SELECT e.*, f.rating, coalesce(f.weight, 1.0) AS weight, f.correction
        FROM exchanges e LEFT JOIN (
            SELECT exchange_id, arg_max(rating, created_at) AS rating, arg_max(weight, created_at) AS weight,
                   arg_max(correction, created_at) FILTER (correction IS NOT NULL) AS correction
            FROM feedback GROUP BY exchange_id
        ) f ON f.exchange_id = e.id;
    -- What a night may learn from: trusted or approved answers, and corrections of any answer.
    CREATE VIEW learnable AS
        SELECT *, coalesce(correction, answer) AS target FROM rated
        WHERE trainable AND (
            correction IS NOT NULL
            OR (complete AND regexp_matches(answer, '\S') AND rating IS DISTINCT FROM 'bad'
                AND (tier IN ('teacher', 'import') OR rating = 'good'))
        );
    """,
    r"""
    -- The time of the newest row, in one row that every transaction with exchanges or ratings updates: those that overlap on a
    -- server collide here, so that logged_at grows in the order of the commits, whatever the writers' clocks say.
    CREATE TABLE clock (last TIMESTAMP NOT NULL);
    INSERT INTO clock SELECT coalesce(max(logged_at), TIMESTAMP '1970-01-01 00:00:00') FROM exchanges;
    -- What was forgotten: never inserted again, and known to the versions that were trained on it, if it ever was learnable.
    CREATE TABLE tombstones (
        exchange_id UUID PRIMARY KEY,
        logged_at TIMESTAMP NOT NULL,
        forgotten_at TIMESTAMP NOT NULL,
        learnable BOOLEAN NOT NULL
    );
    -- Files that hold a copy of the log, so that what is forgotten can be taken out of them too.
    CREATE TABLE copies (path VARCHAR PRIMARY KEY, kind VARCHAR NOT NULL, made_at TIMESTAMP NOT NULL, sha256 VARCHAR NOT NULL);
    """,
    r"""
    -- What audits found: whether a version's answer to a query agrees with the teacher's, and with which probability it was
    -- audited. Two versions' answers to the same query are two rows.
    CREATE TABLE outcomes (
        exchange_id UUID NOT NULL,
        version VARCHAR NOT NULL,
        audited_at TIMESTAMP NOT NULL,
        probability DOUBLE NOT NULL CHECK (probability > 0 AND probability <= 1),
        agrees BOOLEAN NOT NULL,
        reason VARCHAR NOT NULL,
        PRIMARY KEY (exchange_id, version)
    );
    """,
    r"""
    -- What the other version of a trial would have answered, NULL where it would have declined; asked before the audit, whose
    -- probability depends on it.
    CREATE TABLE rivals (
        exchange_id UUID NOT NULL,
        version VARCHAR NOT NULL,
        asked_at TIMESTAMP NOT NULL,
        probability DOUBLE NOT NULL CHECK (probability > 0 AND probability <= 1),
        answer VARCHAR,
        same BOOLEAN NOT NULL,
        confidence DOUBLE,
        reason VARCHAR NOT NULL,
        PRIMARY KEY (exchange_id, version)
    );
    """,
    r"""
    -- The last word on an exchange wins, that on its correction too: one that was called bad since is withdrawn.
    DROP VIEW learnable;
    DROP VIEW rated;
    CREATE VIEW rated AS
        SELECT e.*, f.rating, coalesce(f.weight, 1.0) AS weight, f.correction, coalesce(f.withdrawn, false) AS withdrawn
        FROM exchanges e LEFT JOIN (
            SELECT exchange_id, arg_max(rating, created_at) AS rating, arg_max(weight, created_at) AS weight,
                   arg_max(correction, created_at) FILTER (correction IS NOT NULL) AS correction,
                   count(correction) > 0 AND arg_max(rating = 'bad' AND correction IS NULL, created_at) AS withdrawn
            FROM feedback GROUP BY exchange_id
        ) f ON f.exchange_id = e.id;
    CREATE VIEW learnable AS
        SELECT *, coalesce(correction, answer) AS target FROM rated
        WHERE trainable AND (
            (correction IS NOT NULL AND NOT withdrawn)
            OR (complete AND regexp_matches(answer, '\S') AND rating IS DISTINCT FROM 'bad'
                AND (tier IN ('teacher', 'import') OR rating = 'good'))
        );
    """,
)

# In the order in which a copy of the log can be filled.
TABLES = ("exchanges", "attempts", "feedback", "outcomes", "rivals", "runs", "clock", "tombstones", "copies")
VERSION = len(MIGRATIONS)
