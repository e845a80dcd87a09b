-- For the DBA: checks with a suggested statement for each problem, and repairs.

CREATE FUNCTION chatbot_doctor() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text;
    version_of_vector text;
    lacks record;
    found bigint;
    said text;
    began timestamptz;
    down boolean := false;
BEGIN
    -- If the library does not serve this version of the SQL, the other checks cannot run.
    SELECT * INTO check_name, status, detail, hint FROM chatbot_sync.check_version() AS v;
    RETURN NEXT;
    IF status = 'error' THEN
        RETURN;
    END IF;
    -- pgvector
    SELECT e.extversion INTO version_of_vector FROM pg_extension AS e WHERE e.extname = 'vector';
    version := version_of_vector;
    RETURN QUERY SELECT 'pgvector',
        CASE WHEN string_to_array(version, '.')::int[] >= ARRAY[0, 5] THEN 'ok' ELSE 'error' END,
        'version ' || version, CASE WHEN string_to_array(version, '.')::int[] >= ARRAY[0, 5] THEN NULL ELSE 'ALTER EXTENSION vector UPDATE;' END;
    RETURN QUERY SELECT * FROM chatbot_sync.check_database();
    RETURN QUERY SELECT * FROM chatbot_sync.check_roles();
    -- The provider is asked for one vector.
    began := clock_timestamp();
    IF NOT chatbot_sync.is_enabled() THEN
        RETURN QUERY SELECT 'provider', 'ok', 'not asked: chatbot_sync.enabled is off', NULL::text;
    ELSE
        BEGIN
            PERFORM @extschema@.chatbot_embed('Is anybody there?', 'query');
            RETURN QUERY SELECT 'provider', 'ok', format('%s answered in %s ms',
                COALESCE((SELECT m.provider || ' (' || m.model || ')' FROM chatbot_sync.model AS m WHERE m.active), 'the built-in model'),
                round(extract(epoch FROM clock_timestamp() - began) * 1000)), NULL::text;
        EXCEPTION WHEN query_canceled THEN
            RAISE;
        WHEN OTHERS THEN
            GET STACKED DIAGNOSTICS said = PG_EXCEPTION_DETAIL, version = PG_EXCEPTION_HINT;
            RETURN QUERY SELECT 'provider', 'error', format('%s %s (%s)', SQLERRM, said, SQLSTATE), version;
        END;
    END IF;
    -- Nodes of Citus come first, since the checks below would fail on a node that is down.
    FOR check_name, status, detail, hint IN SELECT * FROM chatbot_sync.check_nodes() AS n LOOP
        RETURN NEXT;
        down := down OR check_name = 'node down';
    END LOOP;
    IF down THEN
        RETURN;
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_workers();
    RETURN QUERY SELECT * FROM chatbot_sync.check_queue();
    RETURN QUERY SELECT * FROM chatbot_sync.check_row_security();
    SELECT count(*) INTO found FROM chatbot_sync.job AS j WHERE j.leased_by IS NOT NULL
        AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = j.leased_by);
    IF found > 0 THEN
        RETURN QUERY SELECT 'leases', 'warning', format('%s jobs are leased by processes that are gone', found),
            'They come back with the next worker, or now: CALL chatbot_process_queue();';
    END IF;
    -- Sources
    SELECT count(*), min(format('%s %s of chatbot %s: %s', s.source_type, s.source_id, s.chatbot_id, s.error)) INTO found, said
    FROM chatbot_sync.source AS s WHERE s.status = 'error';
    RETURN QUERY SELECT 'sources in error', CASE WHEN found > 0 THEN 'error' ELSE 'ok' END,
        CASE WHEN found > 0 THEN format('%s, as %s', found, said) ELSE 'none' END,
        CASE WHEN found > 0 THEN 'When the reason is gone: SELECT chatbot_retry(); and CALL chatbot_process_queue();' END;
    SELECT count(*) INTO found FROM chatbot_sync.source AS s
    LEFT JOIN (SELECT DISTINCT q.chatbot_id, q.source_type, q.source_id FROM chatbot_sync.job AS q) AS j
        ON (j.chatbot_id, j.source_type, j.source_id) = (s.chatbot_id, s.source_type, s.source_id)
    WHERE s.status = 'pending' AND s.enabled AND s.host IS NOT NULL AND j.chatbot_id IS NULL;
    RETURN QUERY SELECT 'sources that wait', CASE WHEN found > 0 THEN 'warning' ELSE 'ok' END,
        format('%s without a job', found), CASE WHEN found > 0 THEN 'CALL chatbot_sync_all();' END;
    SELECT count(*) INTO found FROM chatbot_sync.source AS s WHERE s.truncated;
    IF found > 0 THEN
        RETURN QUERY SELECT 'truncated sources', 'warning', format('the end of %s is not searched', found),
            format('ALTER DATABASE %I SET chatbot_sync.max_chunks = 1000; and in a new session CALL chatbot_sync_all(refresh => true); Which: SELECT * FROM chatbot_sync.source WHERE truncated;', current_database());
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_sources();
    RETURN QUERY SELECT * FROM chatbot_sync.check_hosts();
    RETURN QUERY SELECT * FROM chatbot_sync.check_backup();
    RETURN QUERY SELECT * FROM chatbot_sync.check_triggers();
    -- Models
    IF EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.next) THEN
        RETURN QUERY SELECT 'models', 'warning', (SELECT format('model %s is to follow and is not whole', m.model) FROM chatbot_sync.model AS m WHERE m.next),
            'CALL chatbot_reembed();';
    END IF;
    SELECT count(*) INTO found FROM chatbot_sync.model AS m WHERE NOT m.active AND NOT m.next
        AND m.id IN (SELECT DISTINCT e.model_id FROM chatbot_sync.embedding AS e);
    IF found > 0 THEN
        RETURN QUERY SELECT 'models', 'ok', format('%s models keep vectors that no search uses', found),
            'If you do not go back: CALL chatbot_drop_model(id); the ids: TABLE chatbot_sync.model;';
    END IF;
    -- Indexes
    FOR lacks IN
        SELECT x.id, x.index_error, string_agg(format('%s is %s', i.name, CASE WHEN i.present THEN 'invalid' ELSE 'missing' END), ', ') AS lacking
        FROM chatbot_sync.model AS x JOIN chatbot_sync.model_index AS i ON i.model_id = x.id AND i.wanted AND NOT i.valid GROUP BY x.id
    LOOP
        -- With Citus pg_stat_progress_create_index has rows on the nodes only, so the background worker that builds is
        -- looked for as well.
        IF EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.datname = current_database() AND p.relid = 'chatbot_sync.embedding'::regclass)
            OR EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.backend_type = 'chatbot_sync index')
        THEN
            RETURN QUERY SELECT 'indexes', 'ok', 'an index is being made', NULL::text;
        ELSE
            RETURN QUERY SELECT 'indexes', 'error', concat_ws(': ', lacks.lacking, lacks.index_error), format('CALL chatbot_create_index(%s);', lacks.id);
        END IF;
    END LOOP;
    IF EXISTS (SELECT FROM chatbot_sync.model AS m JOIN chatbot_sync.model_index AS i ON i.model_id = m.id WHERE m.active AND i.kind = 'hnsw' AND i.valid) THEN
        IF string_to_array(version_of_vector, '.')::int[] < ARRAY[0, 8] THEN
            RETURN QUERY SELECT 'indexes', 'warning', format('pgvector %s does not go on where a filter leaves too few: then all is read', version_of_vector),
                'Install pgvector 0.8 or later, then ALTER EXTENSION vector UPDATE;';
        END IF;
        IF 'true' = ANY (chatbot_sync.run_in_each_shard('chatbot_sync.embedding', 'SELECT (c.reltuples <> 0 AND NOT EXISTS (SELECT FROM pg_statistic AS s WHERE s.starelid = c.oid))::text FROM pg_class AS c WHERE c.oid = ''%s''::regclass')) THEN
            RETURN QUERY SELECT 'indexes', 'warning', 'Postgres does not know which chatbots are large, and so uses no index',
                'ANALYZE chatbot_sync.embedding, chatbot_sync.source;';
        END IF;
    ELSIF NOT EXISTS (SELECT FROM chatbot_sync.model AS m WHERE m.active AND m.indexed) THEN
        -- The same rule as in src/search/plan.rs, with four times its limit, since an index makes each write slower.
        RETURN QUERY SELECT 'indexes', 'warning', a, 'CALL chatbot_create_index();'
        FROM unnest(chatbot_sync.run_in_each_shard('chatbot_sync.source', $sql$
            SELECT 'a search of chatbot ' || s.chatbot_id || ' reads all its ' || s.chunks || ' chunks'
            FROM (SELECT x.chatbot_id, sum(x.chunk_count) AS chunks, sum(sum(x.chunk_count)) OVER () AS of_all FROM %s AS x GROUP BY x.chatbot_id) AS s
            WHERE s.chunks > greatest(1, 50 * s.of_all / nullif(s.chunks, 0) / 500) * 4 * $sql$ || current_setting('chatbot_sync.exact_search_limit') || '
            ORDER BY s.chunks DESC LIMIT 1')) AS a
        LIMIT 1;
    END IF;
    RETURN QUERY SELECT * FROM chatbot_sync.check_index_memory();
    RETURN QUERY SELECT * FROM chatbot_sync.check_keys();
    RETURN QUERY SELECT * FROM chatbot_sync.check_local_models();
END
$$;

-- Repairs what chatbot_verify() finds; returns the number of problems. Its statements have one key each: enable_seqscan
-- is off so that they use an index, also where the table was small when their plans were made.
CREATE FUNCTION chatbot_repair() RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS $$
DECLARE
    p record;
    done text;
    repaired bigint := 0;
    waiting bigint;
BEGIN
    FOR p IN SELECT * FROM @extschema@.chatbot_verify() LOOP
        CASE p.problem
        -- A row that cannot be read may exist all the same, so its source is kept.
        WHEN 'unreadable', 'invalid id' THEN
            RAISE NOTICE '% % of chatbot %: %: left as it is: %', p.source_type, p.source_id, p.chatbot_id, p.problem, p.detail;
            CONTINUE;
        WHEN 'orphan' THEN
            PERFORM @extschema@.chatbot_delete_source(p.chatbot_id, p.source_type, p.source_id);
            done := 'forgotten';
        WHEN 'detached' THEN
            -- One that is pending: nothing will embed it any more.
            DELETE FROM chatbot_sync.source AS s
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND s.status = 'pending' AND s.content_hash IS NULL AND s.chunk_count = 0;
            done := 'forgotten: it was never embedded';
            IF NOT FOUND THEN
                UPDATE chatbot_sync.source AS s SET host = NULL,
                    status = CASE WHEN s.status <> 'pending' THEN s.status WHEN s.content_hash IS NULL THEN 'error' ELSE 'synced' END,
                    error_code = CASE WHEN s.status = 'pending' AND s.content_hash IS NULL THEN '55000'
                        WHEN s.status <> 'pending' OR s.error_code = '01000' THEN s.error_code END,
                    error = CASE WHEN s.status = 'pending' AND s.content_hash IS NULL
                            THEN 'its table was detached before it was embedded. Embed it again.'
                        WHEN s.status <> 'pending' OR s.error_code = '01000' THEN s.error END
                WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
                done := 'kept, as no table''s';
            END IF;
        WHEN 'double job' THEN
            DELETE FROM chatbot_sync.job AS j
            WHERE (j.chatbot_id, j.source_type, j.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND j.due_at = 'infinity' AND EXISTS (SELECT FROM chatbot_sync.job AS k WHERE k.due_at = 'infinity' AND k.id > j.id
                    AND (k.chatbot_id, k.source_type, k.source_id) = (j.chatbot_id, j.source_type, j.source_id));
            done := 'all but the newest deleted';
        WHEN 'missing' THEN
            done := 'is a source now';
        WHEN 'wrong attributes' THEN
            UPDATE chatbot_sync.embedding AS e SET enabled = s.enabled, metadata = CASE WHEN e.lang IS NULL THEN s.metadata
                ELSE s.metadata || jsonb_build_object('lang', e.lang) END
            FROM chatbot_sync.source AS s
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id)
                AND (e.chatbot_id, e.source_type, e.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            done := 'its chunks have what it has';
        WHEN 'outdated' THEN
            UPDATE chatbot_sync.source AS s SET status = 'pending'
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id) AND s.host IS NOT NULL;
            done := 'to be cut and read anew';
            IF NOT FOUND THEN
                PERFORM chatbot_sync.reread_words(p.chatbot_id, p.source_type, p.source_id);
                done := 'its words read anew';
            END IF;
        ELSE
            -- The text of such a source is in no host table, so only the application can embed it again.
            UPDATE chatbot_sync.source AS s SET content_hash = NULL, enabled = s.enabled OR p.problem = 'stale',
                status = CASE WHEN s.host IS NULL THEN 'error' ELSE 'pending' END,
                error_code = CASE WHEN s.host IS NULL THEN '55000' END,
                error = CASE WHEN s.host IS NULL THEN p.problem || ': ' || p.detail || '. Embed it again.' END
            WHERE (s.chatbot_id, s.source_type, s.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            IF p.problem <> 'stale' THEN
                DELETE FROM chatbot_sync.embedding AS e
                WHERE (e.chatbot_id, e.source_type, e.source_id) = (p.chatbot_id, p.source_type, p.source_id);
            END IF;
            done := CASE WHEN p.problem = 'stale' THEN 'to be embedded again' ELSE 'its vectors deleted, to be embedded again' END;
        END CASE;
        RAISE NOTICE '% % of chatbot %: %: %', p.source_type, p.source_id, p.chatbot_id, p.problem, done;
        repaired := repaired + 1;
    END LOOP;
    FOR p IN SELECT DISTINCT i.model_id FROM chatbot_sync.model_index AS i WHERE i.wanted AND NOT i.valid LOOP
        PERFORM chatbot_sync.build_indexes(p.model_id);
        RAISE NOTICE 'model %: it had not all its indexes', p.model_id;
        repaired := repaired + 1;
    END LOOP;
    -- Creates missing triggers on inheritance children and partitions.
    FOR p IN SELECT h.relation FROM chatbot_sync.host_table AS h LOOP
        DECLARE
            waits text := current_setting('lock_timeout');
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            PERFORM chatbot_sync.follow_alter_table(p.relation);
            PERFORM set_config('lock_timeout', waits, true);
        EXCEPTION WHEN lock_not_available THEN
            RAISE WARNING '% is locked by another session: it is left out', p.relation;
        END;
    END LOOP;
    PERFORM chatbot_sync.register_existing_rows();
    SELECT count(*) INTO waiting FROM chatbot_sync.source AS s
    WHERE s.status = 'pending' AND s.enabled AND s.host IS NOT NULL;
    IF waiting > 0 THEN
        RAISE NOTICE '% sources are pending: CALL chatbot_sync_all();', waiting;
    END IF;
    RETURN repaired;
END
$$;
