-- Views of the state of sources and the queue.

CREATE VIEW chatbot_sync.source_status AS
    SELECT chatbot_id, source_type, source_id,
        CASE WHEN s.status IS NULL OR s.status = 'synced' AND j.waits THEN 'pending' ELSE s.status END AS status,
        COALESCE(s.error, CASE WHEN s.truncated THEN 'the text goes on after its last chunk: chatbot_sync.max_chunks' END) AS reason,
        s.error_code, COALESCE(s.attempts, 0) AS attempts, s.next_attempt_at, COALESCE(s.chunk_count, 0) AS chunk_count,
        COALESCE(s.enabled, true) AS enabled, s.synced_at, now() - s.synced_at AS age
    FROM (SELECT chatbot_id, source_type, source_id, status, error, error_code, attempts, next_attempt_at, chunk_count, truncated,
            enabled, synced_at FROM chatbot_sync.source) AS s
    -- Jobs without a source: chatbot_enqueue_source() inserted them at REPEATABLE READ, and no worker has claimed them
    -- yet. A full join never becomes a nested loop, whatever the statistics say.
    FULL JOIN (SELECT DISTINCT chatbot_id, source_type, source_id, true AS waits FROM chatbot_sync.job WHERE due_at < 'infinity') AS j
        USING (chatbot_id, source_type, source_id);

CREATE VIEW chatbot_sync.progress AS
    SELECT s.chatbot_id, s.source_type, s.sources, s.synced, s.pending, s.in_work, s.failed,
        round(COALESCE(l.per_second, 0)::numeric, 2)::float8 AS per_second,
        CASE WHEN s.pending + s.in_work > 0 AND l.per_second > 0
            THEN date_trunc('second', statement_timestamp() + make_interval(secs => (s.pending + s.in_work) / l.per_second))
        END AS estimated_end
    FROM (
        SELECT chatbot_id, source_type, count(*) AS sources,
            count(*) FILTER (WHERE leased IS NULL AND status = 'synced') AS synced,
            -- A source that is not enabled stays pending until it is: nothing waits for it.
            count(*) FILTER (WHERE leased IS FALSE OR leased IS NULL AND status = 'pending' AND enabled) AS pending,
            count(*) FILTER (WHERE leased) AS in_work,
            count(*) FILTER (WHERE leased IS NULL AND status = 'error') AS failed
        FROM (SELECT chatbot_id, source_type, source_id, status, enabled FROM chatbot_sync.source) AS s
        FULL JOIN (SELECT chatbot_id, source_type, source_id, bool_or(leased_by IS NOT NULL) AS leased
            FROM chatbot_sync.job WHERE due_at < 'infinity' GROUP BY chatbot_id, source_type, source_id) AS j
            USING (chatbot_id, source_type, source_id)
        GROUP BY chatbot_id, source_type
    ) AS s
    -- The rate of the last minute, or since the first sync within it began. Sources that are embedded together are logged
    -- together: where that takes long, twice as long is looked back, and silence for as long is no standstill.
    FULL JOIN (
        SELECT chatbot_id, source_type,
            count(*) / greatest(1,
                extract(epoch FROM max(logged_at) - min(logged_at)) + max(total_ms) / 1000,
                extract(epoch FROM statement_timestamp() - min(logged_at)))::float8 AS per_second
        FROM chatbot_sync.sync_log
        WHERE logged_at > statement_timestamp() - interval '1 minute' - 2 * interval '1 millisecond' * (
                SELECT COALESCE(max(total_ms), 0)
                FROM (SELECT total_ms FROM chatbot_sync.sync_log ORDER BY logged_at DESC LIMIT 50) AS latest
            )
            AND error_code IS NULL
            AND model_id = (SELECT id FROM chatbot_sync.model WHERE active)
        GROUP BY chatbot_id, source_type
    ) AS l USING (chatbot_id, source_type)
    WHERE COALESCE(s.sources, 0) > 0;

CREATE VIEW chatbot_sync.stats AS
    SELECT l.chatbot_id, m.provider, m.model,
        count(*) FILTER (WHERE went_well) AS syncs,
        count(*) FILTER (WHERE NOT went_well) AS failed,
        round(count(*) FILTER (WHERE went_well)::numeric / nullif(count(went_well), 0), 4)::float8 AS success_rate,
        COALESCE(sum(l.embedded), 0)::bigint AS embedded, COALESCE(sum(l.chunks - l.embedded), 0)::bigint AS reused,
        COALESCE(sum(l.requests), 0)::bigint AS requests, COALESCE(sum(l.inputs), 0)::bigint AS inputs,
        COALESCE(sum(l.tokens), 0)::bigint AS tokens,
        avg(l.total_ms) FILTER (WHERE went_well) AS mean_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.total_ms) FILTER (WHERE went_well) AS p95_ms,
        avg(l.chunking_ms) FILTER (WHERE went_well) AS mean_chunking_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.chunking_ms) FILTER (WHERE went_well) AS p95_chunking_ms,
        avg(l.embedding_ms) FILTER (WHERE went_well) AS mean_embedding_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.embedding_ms) FILTER (WHERE went_well) AS p95_embedding_ms,
        avg(l.storing_ms) FILTER (WHERE went_well) AS mean_storing_ms,
        percentile_cont(0.95) WITHIN GROUP (ORDER BY l.storing_ms) FILTER (WHERE went_well) AS p95_storing_ms,
        (SELECT jsonb_object_agg(e.error_code, e.times) FROM (SELECT c.error_code, count(*) AS times
            FROM unnest(array_agg(l.error_code) FILTER (WHERE NOT went_well)) AS c (error_code) GROUP BY c.error_code) AS e
        ) AS errors,
        max(l.logged_at) FILTER (WHERE went_well) AS last_sync,
        count(pending_since) AS pending, min(pending_since) AS oldest_pending
    FROM (
        SELECT chatbot_id, model_id, error_code, error_code IS NULL AS went_well, chunks, embedded, requests, inputs, tokens,
            chunking_ms, embedding_ms, storing_ms, total_ms, logged_at, NULL::timestamptz AS pending_since
        FROM chatbot_sync.sync_log
        UNION ALL
        SELECT chatbot_id, (SELECT id FROM chatbot_sync.model WHERE active), NULL, NULL, NULL, NULL, NULL, NULL, NULL,
            NULL, NULL, NULL, NULL, NULL, min(created_at)
        FROM chatbot_sync.job WHERE due_at < 'infinity' GROUP BY chatbot_id, source_type, source_id
    ) AS l
    LEFT JOIN chatbot_sync.model m ON m.id = l.model_id
    GROUP BY l.chatbot_id, m.provider, m.model;

-- Lets row-level security on the tables apply to the caller of the views (yes), or to their owner. Before Postgres 15
-- it is always the owner.
CREATE FUNCTION chatbot_sync.run_views_as_caller(yes boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v name;
BEGIN
    IF current_setting('server_version_num')::int >= 150000 THEN
        FOREACH v IN ARRAY ARRAY['source_status', 'progress', 'stats'] LOOP
            EXECUTE format('ALTER VIEW chatbot_sync.%I SET (security_invoker = %L)', v, yes);
        END LOOP;
    END IF;
END
$$;
SELECT chatbot_sync.run_views_as_caller(true);
