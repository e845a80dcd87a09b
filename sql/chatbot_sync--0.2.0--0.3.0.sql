-- What ALTER EXTENSION chatbot_sync UPDATE changes in a database of 0.2.0. It rewrites no table. The result is compared
-- with a new installation, object by object (pg_test/upgrade.rs).

-- Jobs are found by indexes that have no others in them, however many wait or have failed.
DROP INDEX chatbot_sync.job_due;
CREATE INDEX job_due ON chatbot_sync.job (priority DESC, chatbot_id, due_at, id) WHERE due_at < 'infinity';
CREATE INDEX job_leased ON chatbot_sync.job (leased_by) WHERE leased_by > 0;

-- No plan depends on the statistics.
CREATE OR REPLACE VIEW chatbot_sync.source_status AS
    SELECT chatbot_id, source_type, source_id,
        CASE WHEN s.status IS NULL OR s.status = 'synced' AND j.waits THEN 'pending' ELSE s.status END AS status,
        COALESCE(s.error, CASE WHEN s.truncated THEN 'the text goes on after its last chunk: chatbot_sync.max_chunks' END) AS reason,
        s.error_code, COALESCE(s.attempts, 0) AS attempts, s.next_attempt_at, COALESCE(s.chunk_count, 0) AS chunk_count,
        COALESCE(s.enabled, true) AS enabled, s.synced_at, now() - s.synced_at AS age
    FROM (SELECT chatbot_id, source_type, source_id, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated,
            enabled, synced_at FROM chatbot_sync.source) AS s
    -- Sources without a row: queued by chatbot_enqueue_source() at REPEATABLE READ, and nobody has looked at them yet. A full join
    -- is no nested loop, whatever the statistics say.
    FULL JOIN (SELECT DISTINCT chatbot_id, source_type, source_id, true AS waits FROM chatbot_sync.job WHERE due_at < 'infinity') AS j
        USING (chatbot_id, source_type, source_id);

CREATE OR REPLACE VIEW chatbot_sync.progress AS
    SELECT s.chatbot_id, s.source_type, s.sources, s.synced, s.pending, s.in_work, s.failed,
        round(COALESCE(l.per_second, 0)::numeric, 2)::float8 AS per_second,
        CASE WHEN s.pending + s.in_work > 0 AND l.per_second > 0
            THEN date_trunc('second', statement_timestamp() + make_interval(secs => (s.pending + s.in_work) / l.per_second))
        END AS estimated_end
    FROM (
        SELECT chatbot_id, source_type, count(*) AS sources,
            count(*) FILTER (WHERE leased IS NULL AND status = 'synced') AS synced,
            count(*) FILTER (WHERE leased IS FALSE OR leased IS NULL AND status = 'pending') AS pending,
            count(*) FILTER (WHERE leased) AS in_work,
            count(*) FILTER (WHERE leased IS NULL AND status = 'error') AS failed
        FROM (SELECT chatbot_id, source_type, source_id, status FROM chatbot_sync.source) AS s
        FULL JOIN (SELECT chatbot_id, source_type, source_id, bool_or(leased_by IS NOT NULL) AS leased
            FROM chatbot_sync.job WHERE due_at < 'infinity' GROUP BY chatbot_id, source_type, source_id) AS j
            USING (chatbot_id, source_type, source_id)
        GROUP BY chatbot_id, source_type
    ) AS s
    -- In the last minute, or as much of it as there was something.
    FULL JOIN (
        SELECT chatbot_id, source_type,
            count(*) / greatest(1, extract(epoch FROM statement_timestamp() - min(logged_at)))::float8 AS per_second
        FROM chatbot_sync.sync_log
        WHERE logged_at > statement_timestamp() - interval '1 minute' AND error_code IS NULL
            AND model_id = (SELECT id FROM chatbot_sync.model WHERE active)
        GROUP BY chatbot_id, source_type
    ) AS l USING (chatbot_id, source_type)
    WHERE COALESCE(s.sources, 0) > 0;

CREATE OR REPLACE FUNCTION chatbot_sync.drop_vectors(model_id int, batch int) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    gone bigint;
BEGIN
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.id = model_id) THEN
        RETURN 0;
    END IF;
    IF chatbot_sync.is_distributed() THEN
        DELETE FROM chatbot_sync.embedding AS e
        USING (SELECT f.chatbot_id, f.source_type, f.source_id, f.chunk_id FROM chatbot_sync.embedding AS f
            WHERE f.model_id = drop_vectors.model_id LIMIT batch) AS g
        WHERE (e.chatbot_id, e.source_type, e.source_id, e.chunk_id) = (g.chatbot_id, g.source_type, g.source_id, g.chunk_id)
            AND e.model_id = drop_vectors.model_id;
    ELSE
        -- By their places: no join that the statistics could make a nested loop.
        DELETE FROM chatbot_sync.embedding AS e
        WHERE e.ctid = ANY (ARRAY(SELECT f.ctid FROM chatbot_sync.embedding AS f
            WHERE f.model_id = drop_vectors.model_id LIMIT batch)) AND e.model_id = drop_vectors.model_id;
    END IF;
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
END
$$;

ALTER FUNCTION chatbot_repair() SET enable_seqscan = off;
