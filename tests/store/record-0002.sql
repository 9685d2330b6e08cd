BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'outloop-audit','0001_record','2026-11-28 07:47:09.781438+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'outloop-audit','0002_claims_lapse','2026-11-28 07:47:09.824839+00:00');
CREATE TABLE decisions (
    id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, workspace TEXT, agent TEXT, service TEXT, key TEXT,
    method TEXT NOT NULL, scheme TEXT NOT NULL, host TEXT NOT NULL, port INTEGER, path TEXT NOT NULL,
    decision TEXT NOT NULL CHECK (decision IN ('allow', 'deny')), reason TEXT NOT NULL, rule TEXT,
    runtime_mode TEXT CHECK (runtime_mode IN ('read', 'write')), proof INTEGER NOT NULL CHECK (proof IN (0, 1)),
    approval TEXT, stripped INTEGER NOT NULL, policy TEXT, session TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "decisions" VALUES('01KDVDNBYG0000000000000000','2026-01-01T00:00:02.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',0,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',3,'d033eae27ef711b2ca33e07b9b0c26a2af6ee0549bf704c49f78cb16430d4828');
INSERT INTO "decisions" VALUES('01KDVDNCXR0000000000000000','2026-01-01T00:00:03.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',1,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',5,'6cd6dc740cbecbc141072c55b68d0f29dde264215bb00ecec1fbaed9c3d4e5b7');
INSERT INTO "decisions" VALUES('01KDVDNDX00000000000000000','2026-01-01T00:00:04.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',0,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',7,'0912abc59171c8b66b23711137b8476cdfc33278796dd305802dc18757e901b8');
INSERT INTO "decisions" VALUES('01KDVDNGTR0000000000000000','2026-01-01T00:00:07.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',0,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00WDWYESEDE5CDA4S1',3,'6c0a3dbfab9a2fbb6df7ae65a026b94d0cb965571cd034f1a2b17ef56185ea9e');
INSERT INTO "decisions" VALUES('01KDVDNHT00000000000000000','2026-01-01T00:00:08.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',1,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00WDWYESEDE5CDA4S1',5,'5e04f46cc70208a085d124cba4c55a3346c876e5c8ec916d3dac5ee0e4bacc13');
INSERT INTO "decisions" VALUES('01KDVDNJS80000000000000000','2026-01-01T00:00:09.000Z','acme','claude','calendly','acme-calendly','GET','https','api.calendly.com',443,'/users/me','allow','OK','acme.yaml:7','read',0,NULL,0,'0123456789abcdef',NULL,'01KDVDNA00WDWYESEDE5CDA4S1',7,'199d3c63a5d1ab4af93360b901da742a0f281ec1c5222e7a5f3e8f80dc0a4b78');
CREATE TABLE events (
    id TEXT PRIMARY KEY NOT NULL, at TEXT NOT NULL, kind TEXT NOT NULL, workspace TEXT, agent TEXT, service TEXT, key TEXT,
    host TEXT, detail TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "events" VALUES('01KDVDNA000000000000000000','2026-01-01T00:00:00.000Z','key_added','acme',NULL,'calendly','acme-calendly',NULL,NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',1,'310a7afe295c0158a5250974f959509a0e3f3a2045458bcf1a1948f2339198f6');
INSERT INTO "events" VALUES('01KDVDNAZ80000000000000000','2026-01-01T00:00:01.000Z','key_enabled','acme',NULL,'calendly','acme-calendly',NULL,NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',2,'f3bb73c6ee67250f7f00e874ae5aec72f36adc20ae659bdad104855d9a21cd69');
INSERT INTO "events" VALUES('01KDVDNEW80000000000000000','2026-01-01T00:00:05.000Z','key_added','acme',NULL,'calendly','acme-calendly',NULL,NULL,'01KDVDNA00WDWYESEDE5CDA4S1',1,'e0d4d6a2c5bd5d13f146b6d8ea1dc7dee9f098b7b2bdb197f1437760b489ce97');
INSERT INTO "events" VALUES('01KDVDNFVG0000000000000000','2026-01-01T00:00:06.000Z','key_enabled','acme',NULL,'calendly','acme-calendly',NULL,NULL,'01KDVDNA00WDWYESEDE5CDA4S1',2,'7b2b21963c83ed62e24192a47ec6a2f31b4f352b55d056beb316ffe27ec7eddf');
CREATE TABLE outcomes (
    decision_id TEXT PRIMARY KEY NOT NULL REFERENCES decisions(id), at TEXT NOT NULL, status INTEGER, reason TEXT,
    scrubbed INTEGER NOT NULL, secret_exposed INTEGER CHECK (secret_exposed IN (0, 1)),
    request_bytes INTEGER, response_bytes INTEGER, duration_ms REAL, upstream_ms REAL, error TEXT,
    writer TEXT NOT NULL, seq INTEGER NOT NULL, hash TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO "outcomes" VALUES('01KDVDNBYG0000000000000000','2026-01-01T00:00:02.000Z',200,NULL,0,0,0,512,12.5,10.0,NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',4,'217fd3ef1d0fe317001463641f027cfe4130eecd6f504df0aa6df3faa7942bc1');
INSERT INTO "outcomes" VALUES('01KDVDNCXR0000000000000000','2026-01-01T00:00:03.000Z',200,NULL,0,0,0,512,12.5,10.0,NULL,'01KDVDNA00XJXYQSAZ7VY9KWQX',6,'ec1d67c1120cf69d5ec11cfdd6fd0f4aeafff78bd9f1d289da4a5ce1150e26a2');
INSERT INTO "outcomes" VALUES('01KDVDNGTR0000000000000000','2026-01-01T00:00:07.000Z',200,NULL,0,0,0,512,12.5,10.0,NULL,'01KDVDNA00WDWYESEDE5CDA4S1',4,'e3a9b8f801a274d9b3bc7fec9d129bc4d8f13a04050b69199fe89af38f4ff4a7');
INSERT INTO "outcomes" VALUES('01KDVDNHT00000000000000000','2026-01-01T00:00:08.000Z',200,NULL,0,0,0,512,12.5,10.0,NULL,'01KDVDNA00WDWYESEDE5CDA4S1',6,'6768c1aa0b7618bb579a79d7fa13d99f2c95fffcbf0f695679f806b29624967b');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE UNIQUE INDEX decisions_chain ON decisions (writer, seq);
CREATE UNIQUE INDEX outcomes_chain ON outcomes (writer, seq);
CREATE UNIQUE INDEX events_chain ON events (writer, seq);
CREATE INDEX decisions_denied ON decisions (id) WHERE decision = 'deny';
CREATE INDEX decisions_proofs ON decisions (workspace, service, id) WHERE proof = 1;
CREATE TRIGGER outcomes_follow_a_decision BEFORE INSERT ON outcomes
    WHEN NOT EXISTS (SELECT 1 FROM decisions WHERE id = NEW.decision_id)
    BEGIN SELECT RAISE(ABORT, 'an outcome needs its decision'); END;
CREATE TRIGGER decisions_no_update BEFORE UPDATE ON decisions
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER decisions_no_delete BEFORE DELETE ON decisions
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER decisions_no_replace BEFORE INSERT ON decisions
    WHEN EXISTS (SELECT 1 FROM decisions WHERE id = NEW.id)
      OR EXISTS (SELECT 1 FROM decisions WHERE writer = NEW.writer AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER outcomes_no_update BEFORE UPDATE ON outcomes
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER outcomes_no_delete BEFORE DELETE ON outcomes
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER outcomes_no_replace BEFORE INSERT ON outcomes
    WHEN EXISTS (SELECT 1 FROM outcomes WHERE decision_id = NEW.decision_id)
      OR EXISTS (SELECT 1 FROM outcomes WHERE writer = NEW.writer AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER events_no_update BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE TRIGGER events_no_replace BEFORE INSERT ON events
    WHEN EXISTS (SELECT 1 FROM events WHERE id = NEW.id)
      OR EXISTS (SELECT 1 FROM events WHERE writer = NEW.writer AND seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END;
CREATE VIEW audit AS
SELECT d.id, d.at, d.workspace, d.agent, d.service, d.key, d.method, d.scheme, d.host, d.port, d.path, d.decision,
    coalesce(o.reason, d.reason) AS reason, d.rule, d.runtime_mode, d.proof, d.approval, o.status, d.stripped, o.scrubbed,
    o.secret_exposed, o.request_bytes, o.response_bytes, o.duration_ms, o.upstream_ms, o.error, d.policy, d.session, d.hash
FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id;
CREATE VIEW keys AS
WITH
switched AS (
    SELECT workspace, key, kind, max(id) FROM events
    WHERE kind IN ('key_added', 'key_enabled', 'key_disabled', 'key_removed') GROUP BY workspace, key),
changed AS (
    SELECT workspace, key, max(service) AS service, max(CASE kind WHEN 'key_added' THEN at END) AS added_at,
        max(CASE kind WHEN 'key_rotated' THEN at END) AS rotated_at, max(CASE kind WHEN 'key_removed' THEN at END) AS removed_at
    FROM events WHERE key IS NOT NULL GROUP BY workspace, key),
used AS (
    SELECT workspace, key, service, count(*) AS requests, at AS last_used, status AS last_status, max(id)
    FROM audit WHERE key IS NOT NULL AND decision = 'allow' GROUP BY workspace, key),
known AS (SELECT workspace, key FROM changed UNION SELECT workspace, key FROM used)
SELECT k.workspace, coalesce(c.service, u.service) AS service, k.key,
    CASE s.kind WHEN 'key_enabled' THEN 'on' WHEN 'key_removed' THEN 'removed' WHEN 'key_added' THEN 'off'
        WHEN 'key_disabled' THEN 'off' END AS runtime_access,
    c.added_at, c.rotated_at, CASE s.kind WHEN 'key_removed' THEN c.removed_at END AS removed_at,
    coalesce(u.requests, 0) AS requests, u.last_used, u.last_status
FROM known k
LEFT JOIN changed c ON c.workspace = k.workspace AND c.key = k.key
LEFT JOIN switched s ON s.workspace = k.workspace AND s.key = k.key
LEFT JOIN used u ON u.workspace = k.workspace AND u.key = k.key;
CREATE VIEW agents AS
WITH
changed AS (
    SELECT workspace, agent, max(CASE kind WHEN 'agent_added' THEN at END) AS added_at,
        max(CASE kind WHEN 'agent_revoked' THEN at END) AS revoked_at
    FROM events WHERE kind IN ('agent_added', 'agent_revoked') GROUP BY workspace, agent),
seen AS (
    SELECT workspace, coalesce(agent, '') AS agent, count(*) AS requests, sum(decision = 'deny') AS denied, max(at) AS last_seen
    FROM decisions WHERE workspace IS NOT NULL GROUP BY workspace, coalesce(agent, '')),
known AS (SELECT workspace, agent FROM changed UNION SELECT workspace, agent FROM seen)
SELECT k.workspace, k.agent, c.added_at, c.revoked_at, coalesce(s.requests, 0) AS requests, coalesce(s.denied, 0) AS denied,
    s.last_seen
FROM known k
LEFT JOIN changed c ON c.workspace = k.workspace AND c.agent = k.agent
LEFT JOIN seen s ON s.workspace = k.workspace AND s.agent = k.agent;
CREATE VIEW approvals AS
SELECT id, at, workspace, agent, service, method, path, decision, reason, rule, approval, status
FROM audit WHERE approval IS NOT NULL OR reason IN ('approval_pending', 'approval_refused', 'approval_expired');
CREATE VIEW claims AS
WITH
proofs AS (SELECT * FROM audit WHERE proof = 1 AND workspace IS NOT NULL AND service IS NOT NULL),
answered AS (
    SELECT workspace, service, runtime_mode AS access, agent, key, at, status, reason, secret_exposed, policy, max(id) AS audit_id
    FROM proofs WHERE decision = 'allow' AND status IS NOT NULL GROUP BY workspace, service, runtime_mode),
tried AS (
    SELECT workspace, service, runtime_mode AS access, decision, reason, max(id) FROM proofs
    GROUP BY workspace, service, runtime_mode),
replaced AS (
    SELECT workspace, key, kind, max(id) AS id FROM events
    WHERE kind IN ('key_added', 'key_rotated', 'key_removed') GROUP BY workspace, key),
switched AS (
    SELECT workspace, key, kind, max(id) FROM events
    WHERE kind IN ('key_added', 'key_enabled', 'key_disabled', 'key_removed') GROUP BY workspace, key),
judged AS (
    SELECT a.*, r.kind AS replacement, s.kind AS switch, (
        SELECT policy FROM (
            SELECT * FROM (
                SELECT id, policy FROM decisions WHERE workspace = a.workspace AND policy IS NOT NULL ORDER BY id DESC LIMIT 1)
            UNION ALL
            SELECT * FROM (
                SELECT id, detail FROM events WHERE kind = 'policy_loaded' AND workspace = a.workspace ORDER BY id DESC LIMIT 1))
        ORDER BY id DESC LIMIT 1) AS in_force
    FROM answered a
    LEFT JOIN replaced r ON r.workspace = a.workspace AND r.key = a.key AND r.id > a.audit_id
    LEFT JOIN switched s ON s.workspace = a.workspace AND s.key = a.key),
known AS (
    SELECT workspace, service FROM decisions WHERE workspace IS NOT NULL AND service IS NOT NULL
    UNION SELECT workspace, service FROM events WHERE workspace IS NOT NULL AND service IS NOT NULL),
accesses AS (SELECT 'read' AS access UNION ALL SELECT 'write'),
reasoned AS (
    SELECT k.workspace, k.service, x.access, j.audit_id, j.at, j.agent,
        CASE
            WHEN j.audit_id IS NULL AND t.access IS NULL THEN 'no proof has run'
            WHEN j.audit_id IS NULL AND t.decision = 'deny' THEN 'the last proof was denied: ' || t.reason
            WHEN j.audit_id IS NULL THEN 'the last proof has no answer on record'
            WHEN j.status NOT BETWEEN 200 AND 299 OR j.reason <> 'OK'
                THEN 'the last proof was answered ' || j.status || ': ' || j.reason
            WHEN j.secret_exposed = 1 THEN 'the last proof exposed a secret'
            WHEN j.secret_exposed IS NULL THEN 'exposure could not be measured in the last proof'
            WHEN j.replacement = 'key_removed' THEN 'the key was removed since the last proof'
            WHEN j.replacement IS NOT NULL THEN 'the key was replaced since the last proof'
            WHEN j.in_force IS NOT j.policy THEN 'the policy was changed since the last proof'
            WHEN j.switch IN ('key_added', 'key_disabled', 'key_removed') THEN 'runtime access is off'
        END AS why
    FROM known k CROSS JOIN accesses x
    LEFT JOIN judged j ON j.workspace = k.workspace AND j.service = k.service AND j.access = x.access
    LEFT JOIN tried t ON t.workspace = k.workspace AND t.service = k.service AND t.access = x.access)
SELECT workspace, service, access, CASE WHEN why IS NULL THEN 'verified' ELSE 'not claimed' END AS claim,
    CASE WHEN why IS NULL THEN audit_id END AS audit_id, CASE WHEN why IS NULL THEN at END AS at,
    CASE WHEN why IS NULL THEN agent END AS agent, why
FROM reasoned;
COMMIT;