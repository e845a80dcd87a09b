-- Metrics for monitoring, with the names and units that Prometheus recommends.

-- Runs with the owner's rights, so that a monitoring role needs no privilege on tables; it returns sums only.
CREATE FUNCTION chatbot_metrics() RETURNS TABLE (name text, labels jsonb, value double precision, type text, help text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
    -- Rows that sync_log has no more are in sync_total: a counter never goes back. Each is read once.
    WITH logged AS MATERIALIZED (
        SELECT d.provider, d.model, l.* FROM (
            SELECT model_id, error_code, syncs, chunks, embedded, requests, inputs, tokens, chunking_ms, embedding_ms, storing_ms
            FROM chatbot_sync.sync_total
            UNION ALL
            SELECT model_id, error_code, count(*), sum(chunks), sum(embedded), sum(requests), sum(inputs), sum(tokens),
                sum(chunking_ms), sum(embedding_ms), sum(storing_ms)
            FROM chatbot_sync.sync_log GROUP BY model_id, error_code
        ) AS l
        LEFT JOIN chatbot_sync.model AS d ON d.id = l.model_id
    )
    SELECT 'chatbot_sync_info', jsonb_build_object('version', e.extversion), 1, 'gauge', 'The version of the extension.'
    FROM pg_extension AS e WHERE e.extname = 'chatbot_sync'
    UNION ALL
    SELECT 'chatbot_sync_preloaded', '{}', chatbot_sync.is_preloaded()::int, 'gauge',
        'Whether the library is preloaded, so that there can be workers.'
    UNION ALL
    SELECT 'chatbot_sync_workers', '{}', count(*), 'gauge', 'Workers of this database that are at work.'
    FROM pg_stat_activity AS a WHERE a.backend_type = 'chatbot_sync worker' AND a.datname = current_database()
    UNION ALL
    SELECT 'chatbot_sync_sources', jsonb_build_object('status', s.status), COALESCE(x.sources, 0), 'gauge', 'Sources by their status.'
    FROM (VALUES ('synced'), ('pending'), ('error')) AS s (status)
    LEFT JOIN (SELECT status, count(*) AS sources FROM chatbot_sync.source GROUP BY status) AS x ON x.status = s.status
    UNION ALL
    SELECT m.name, '{}', m.value, 'gauge', m.help
    FROM (SELECT COALESCE(sum(s.chunk_count), 0) AS chunks, count(*) FILTER (WHERE s.truncated) AS truncated
        FROM chatbot_sync.source AS s) AS s
    CROSS JOIN LATERAL (VALUES
        ('chatbot_sync_chunks', s.chunks, 'Chunks of all sources.'),
        ('chatbot_sync_sources_truncated', s.truncated, 'Sources whose end was cut off.')) AS m (name, value, help)
    UNION ALL
    SELECT 'chatbot_sync_jobs', jsonb_build_object('state', s.state), count(j.state), 'gauge',
        'Jobs of the queue: due, leased (somebody is at work on them), later (to be tried again) and failed.'
    FROM (VALUES ('due'), ('leased'), ('later'), ('failed')) AS s (state)
    LEFT JOIN (SELECT CASE WHEN due_at = 'infinity' THEN 'failed' WHEN due_at <= clock_timestamp() THEN 'due'
        WHEN leased_by IS NOT NULL THEN 'leased' ELSE 'later' END AS state FROM chatbot_sync.job) AS j ON j.state = s.state
    GROUP BY s.state
    UNION ALL
    SELECT 'chatbot_sync_oldest_due_job_age_seconds', '{}',
        COALESCE(extract(epoch FROM clock_timestamp() - min(j.created_at)), 0), 'gauge', 'Age of the oldest job that is due.'
    FROM chatbot_sync.job AS j WHERE j.due_at <= clock_timestamp()
    UNION ALL
    SELECT 'chatbot_sync_table_bytes', jsonb_build_object('table', c.relname), pg_total_relation_size(c.oid), 'gauge',
        'Size of a table, with its indexes.'
    FROM pg_class AS c WHERE c.relnamespace = 'chatbot_sync'::regnamespace AND c.relkind IN ('r', 'p')
    UNION ALL
    SELECT m.name, jsonb_build_object('provider', COALESCE(l.provider, ''), 'model', COALESCE(l.model, '')) || m.more, m.value,
        'counter', m.help
    FROM (
        SELECT l.provider, l.model, sum(l.syncs) FILTER (WHERE l.error_code IS NULL) AS syncs, sum(l.chunks - l.embedded) AS reused,
            sum(l.embedded) AS embedded, sum(l.requests) AS requests, sum(l.inputs) AS inputs, sum(l.tokens) AS tokens,
            sum(l.chunking_ms) / 1000 AS chunking, sum(l.embedding_ms) / 1000 AS embedding, sum(l.storing_ms) / 1000 AS storing
        FROM logged AS l GROUP BY l.provider, l.model
    ) AS l
    CROSS JOIN LATERAL (VALUES
        ('chatbot_sync_syncs_total', '{}'::jsonb, l.syncs::float8, 'Syncs that stored chunks, and committed.'),
        ('chatbot_sync_chunks_embedded_total', '{}', l.embedded, 'Chunks of those syncs that were embedded.'),
        ('chatbot_sync_chunks_reused_total', '{}', l.reused, 'Chunks of those syncs that kept their vectors.'),
        ('chatbot_sync_requests_total', '{}', l.requests, 'Requests to the provider.'),
        ('chatbot_sync_inputs_total', '{}', l.inputs, 'Texts that were sent.'),
        ('chatbot_sync_tokens_total', '{}', l.tokens, 'Tokens, as the provider counts them.'),
        ('chatbot_sync_sync_seconds_total', '{"stage": "chunking"}', l.chunking, 'Time that syncs took, by stage.'),
        ('chatbot_sync_sync_seconds_total', '{"stage": "embedding"}', l.embedding, 'Time that syncs took, by stage.'),
        ('chatbot_sync_sync_seconds_total', '{"stage": "storing"}', l.storing, 'Time that syncs took, by stage.')
    ) AS m (name, more, value, help)
    UNION ALL
    SELECT 'chatbot_sync_sync_errors_total',
        jsonb_build_object('provider', COALESCE(l.provider, ''), 'model', COALESCE(l.model, ''), 'sqlstate', l.error_code),
        sum(l.syncs), 'counter', 'Syncs that failed, by SQLSTATE, as far as their transaction committed.'
    FROM logged AS l WHERE l.error_code IS NOT NULL GROUP BY l.provider, l.model, l.error_code
    UNION ALL
    -- In shared memory, since the server's start.
    SELECT m.name, jsonb_build_object('provider', COALESCE(d.provider, ''), 'model', COALESCE(d.model, ''), 'sqlstate', r.error_code),
        sum(m.value), 'counter', m.help
    FROM chatbot_sync.rolled_back() AS r
    LEFT JOIN chatbot_sync.model AS d ON d.id = r.model_id
    CROSS JOIN LATERAL (VALUES
        ('chatbot_sync_rolled_back_syncs_total', r.syncs,
            'Syncs whose transaction rolled back, by what went wrong with the sync (00000: nothing), if the library is preloaded.'),
        ('chatbot_sync_rolled_back_requests_total', r.requests, 'Requests to the provider of those syncs.'),
        ('chatbot_sync_rolled_back_tokens_total', r.tokens, 'Tokens of those syncs, which no rollback refunds.')
    ) AS m (name, value, help)
    GROUP BY m.name, d.provider, d.model, r.error_code, m.help
    UNION ALL
    SELECT 'chatbot_sync_recent_sync_seconds', jsonb_build_object('quantile', '0.95', 'stage', m.stage), COALESCE(m.ms, 0) / 1000, 'gauge',
        'The time that so many of the syncs of the last five minutes stayed below, by stage.'
    FROM (
        SELECT percentile_cont(0.95) WITHIN GROUP (ORDER BY l.chunking_ms) AS chunking,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY l.embedding_ms) AS embedding,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY l.storing_ms) AS storing,
            percentile_cont(0.95) WITHIN GROUP (ORDER BY l.total_ms) AS whole
        FROM chatbot_sync.sync_log AS l
        WHERE l.logged_at > statement_timestamp() - interval '5 minutes' AND l.error_code IS NULL
    ) AS l
    CROSS JOIN LATERAL (VALUES ('chunking', l.chunking), ('embedding', l.embedding), ('storing', l.storing), ('all', l.whole))
        AS m (stage, ms)
$$;
