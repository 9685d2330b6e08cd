"""The views that people read, over the append-only tables alone."""

from __future__ import annotations

VIEWS = """
CREATE VIEW audit AS
SELECT d.id, d.at, d.workspace, d.agent, d.service, d.key, d.method, d.scheme, d.host, d.port, d.path, d.decision,
    coalesce(o.reason, d.reason) AS reason, d.rule, d.runtime_mode, d.proof, d.approval, o.status, d.stripped, o.scrubbed,
    o.secret_exposed, o.request_bytes, o.response_bytes, o.duration_ms, o.upstream_ms, o.error, d.policy, d.session, d.hash
FROM decisions d LEFT JOIN outcomes o ON o.decision_id = d.id;

-- Beside max(id), SQLite takes the other columns from the row that has it (sqlite.org/lang_select.html#bareagg).
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
verified AS (
    SELECT workspace, service, runtime_mode AS access, at, max(id) AS audit_id FROM proofs
    WHERE decision = 'allow' AND status BETWEEN 200 AND 299 AND secret_exposed = 0 GROUP BY workspace, service, runtime_mode),
tried AS (
    SELECT workspace, service, runtime_mode AS access, decision, reason, status, secret_exposed, max(id) FROM proofs
    GROUP BY workspace, service, runtime_mode),
known AS (
    SELECT workspace, service FROM decisions WHERE workspace IS NOT NULL AND service IS NOT NULL
    UNION SELECT workspace, service FROM events WHERE workspace IS NOT NULL AND service IS NOT NULL),
accesses AS (SELECT 'read' AS access UNION ALL SELECT 'write')
SELECT k.workspace, k.service, a.access, CASE WHEN v.audit_id IS NULL THEN 'not claimed' ELSE 'verified' END AS claim,
    v.audit_id, v.at,
    CASE
        WHEN v.audit_id IS NOT NULL THEN NULL
        WHEN t.access IS NULL THEN 'no proof has run'
        WHEN t.decision = 'deny' THEN 'the last proof was denied: ' || t.reason
        WHEN t.status IS NULL THEN 'the last proof has no answer on record'
        WHEN t.status NOT BETWEEN 200 AND 299 THEN 'the last proof was answered ' || t.status || ': ' || t.reason
        WHEN t.secret_exposed = 1 THEN 'the last proof exposed a secret'
        ELSE 'exposure could not be measured in the last proof'
    END AS why
FROM known k CROSS JOIN accesses a
LEFT JOIN verified v ON v.workspace = k.workspace AND v.service = k.service AND v.access = a.access
LEFT JOIN tried t ON t.workspace = k.workspace AND t.service = k.service AND t.access = a.access;
"""

# What a proof proved holds for the key it used and the policy it was made under: with another of either it proves nothing. Of
# several proofs the newest counts that got an answer, so that a key which stopped working is not claimed for having worked.
CLAIMS = """
DROP VIEW claims;
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
"""

# A rotation is an event before the value changes (detail `begun`) and one after it: a proof in between may have used either
# value. Events of earlier versions have no detail, and are the whole rotation.
ROTATIONS_END = """
DROP VIEW claims;
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
    SELECT workspace, key, kind, detail, max(id) AS id FROM events
    WHERE kind IN ('key_added', 'key_rotated', 'key_removed') GROUP BY workspace, key),
switched AS (
    SELECT workspace, key, kind, max(id) FROM events
    WHERE kind IN ('key_added', 'key_enabled', 'key_disabled', 'key_removed') GROUP BY workspace, key),
judged AS (
    SELECT a.*, r.kind AS replacement, r.detail AS stage, s.kind AS switch, (
        SELECT policy FROM (
            SELECT * FROM (
                SELECT id, policy FROM decisions WHERE workspace = a.workspace AND policy IS NOT NULL ORDER BY id DESC LIMIT 1)
            UNION ALL
            SELECT * FROM (
                SELECT id, detail FROM events WHERE kind = 'policy_loaded' AND workspace = a.workspace ORDER BY id DESC LIMIT 1))
        ORDER BY id DESC LIMIT 1) AS in_force
    FROM answered a
    LEFT JOIN replaced r ON r.workspace = a.workspace AND r.key = a.key AND (r.id > a.audit_id OR r.detail IS 'begun')
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
            WHEN j.stage = 'begun' THEN 'a rotation of the key was begun and not finished'
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
"""

# The same views as before, read with fewer looks: a key's or an agent's rows are counted without their outcomes (a join costs a
# microsecond a row), and what waited for the operator is found through an index that holds those rows alone.
READING = """
CREATE INDEX IF NOT EXISTS decisions_approvals ON decisions (id) WHERE approval IS NOT NULL;

DROP VIEW keys;
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
    SELECT workspace, key, count(*) AS requests, max(id) AS last_id
    FROM decisions WHERE key IS NOT NULL AND decision = 'allow' GROUP BY workspace, key),
known AS (SELECT workspace, key FROM changed UNION SELECT workspace, key FROM used)
SELECT k.workspace, coalesce(c.service, d.service) AS service, k.key,
    CASE s.kind WHEN 'key_enabled' THEN 'on' WHEN 'key_removed' THEN 'removed' WHEN 'key_added' THEN 'off'
        WHEN 'key_disabled' THEN 'off' END AS runtime_access,
    c.added_at, c.rotated_at, CASE s.kind WHEN 'key_removed' THEN c.removed_at END AS removed_at,
    coalesce(u.requests, 0) AS requests, d.at AS last_used, o.status AS last_status
FROM known k
LEFT JOIN changed c ON c.workspace = k.workspace AND c.key = k.key
LEFT JOIN switched s ON s.workspace = k.workspace AND s.key = k.key
LEFT JOIN used u ON u.workspace = k.workspace AND u.key = k.key
LEFT JOIN decisions d ON d.id = u.last_id
LEFT JOIN outcomes o ON o.decision_id = u.last_id;

DROP VIEW approvals;
CREATE VIEW approvals AS
SELECT id, at, workspace, agent, service, method, path, decision, reason, rule, approval, status
FROM audit WHERE approval IS NOT NULL
UNION ALL
SELECT id, at, workspace, agent, service, method, path, decision, reason, rule, approval, status
FROM audit WHERE approval IS NULL AND decision = 'deny'
    AND reason IN ('approval_pending', 'approval_refused', 'approval_expired')
ORDER BY id;
"""
