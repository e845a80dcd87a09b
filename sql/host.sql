-- Host tables: the functions of their triggers, the list of attached tables, and the event triggers that follow DDL.

CREATE FUNCTION chatbot_sync.host_changed() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_host_changed';

-- Runs for each row with the rights of the role that writes it, and reads nothing but catalogs.
CREATE FUNCTION chatbot_sync.host_status() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'chatbot_sync_host_status';

CREATE FUNCTION chatbot_sync.host_truncated() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_host_truncated';

CREATE FUNCTION chatbot_sync.chatbots_deleted() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'chatbot_sync_chatbots_deleted';

CREATE VIEW chatbot_sync.host_table AS
    SELECT (a.options ->> 'host')::int AS host,
        t.tgrelid::regclass AS relation,
        a.options ->> 'source_type' AS source_type,
        a.options #>> '{columns,id,0}' AS id_column,
        a.options #>> '{columns,chatbot,0}' AS chatbot_column,
        CASE WHEN pg_catalog.jsonb_typeof(a.options #> '{columns,content,0}') = 'string'
            THEN a.options #>> '{columns,content,0}' END AS content_column,
        ARRAY(SELECT m ->> 0 FROM pg_catalog.jsonb_array_elements(a.options #> '{columns,metadata}') AS m) AS metadata_columns,
        a.options #>> '{columns,enabled,0}' AS enabled_column,
        a.options #>> '{columns,status,0}' AS status_column,
        a.options #>> '{columns,processed,0}' AS processed_column,
        a.options #>> '{columns,error,0}' AS error_column,
        a.options ->> 'mode' AS mode,
        a.options ->> 'on_error' AS on_error,
        a.options ->> 'content_format' AS content_format,
        a.options #>> '{columns,title,0}' AS title_column,
        CASE WHEN pg_catalog.jsonb_typeof(a.options #> '{columns,content,0}') = 'array'
            THEN ARRAY(SELECT c ->> 0 FROM pg_catalog.jsonb_array_elements(a.options #> '{columns,content}') AS c) END AS content_columns,
        a.options #>> '{condition,sql}' AS condition,
        (a.options ->> 'chatbot_id')::bigint AS chatbot_id
    FROM pg_catalog.pg_trigger t
    CROSS JOIN LATERAL (SELECT (pg_catalog.convert_from(
        pg_catalog.substring(t.tgargs, 1, pg_catalog.length(t.tgargs) - 1), pg_catalog.getdatabaseencoding()))::jsonb AS options) AS a
    WHERE t.tgfoid = 'chatbot_sync.host_changed'::regproc AND t.tgnargs = 1 AND NOT t.tgisinternal
        AND t.tgname = pg_catalog.format('chatbot_sync_%s_insert', a.options ->> 'host') AND NOT (a.options ->> 'partition')::boolean;

-- Counts the sources that chatbot_sync_all() has to sync; of all chatbots where of_chatbot is NULL. It runs as the
-- owner, as register_existing_rows() does: with Citus another role could not see what this transaction wrote before.
CREATE FUNCTION chatbot_sync.count_pending(of_chatbot bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN count(*) FROM chatbot_sync.source AS s
    WHERE s.status <> 'synced' AND s.enabled AND s.host IS NOT NULL AND (of_chatbot IS NULL OR s.chatbot_id = of_chatbot);
END
$$;

CREATE PROCEDURE chatbot_sync_all(chatbot_id bigint DEFAULT NULL, batch int DEFAULT 100, refresh boolean DEFAULT false)
LANGUAGE plpgsql
AS $$
DECLARE
    step record;
    last_chatbot_id bigint;
    last_source_type text;
    last_source_id bigint;
    whole bigint;
    done bigint := 0;
    failed bigint := 0;
    more boolean;
    marked bigint := 0;
    words_read bigint := 0;
    cut_by_hand bigint := 0;
BEGIN
    IF refresh IS NULL THEN
        RAISE null_value_not_allowed USING
            MESSAGE = 'refresh is NULL',
            HINT = 'true, to cut and read anew what other settings have made, or false.';
    END IF;
    IF batch IS NULL OR batch OPERATOR(pg_catalog.<) 1 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = pg_catalog.format('batch is %s, expected 1 or more', COALESCE(batch::text, 'NULL')),
            HINT = 'As many sources are committed together.';
    END IF;
    WHILE refresh LOOP
        SELECT * INTO step
        FROM chatbot_sync.refresh_batch(chatbot_id, last_chatbot_id, last_source_type, last_source_id) AS s;
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        marked := marked OPERATOR(pg_catalog.+) step.marked;
        words_read := words_read OPERATOR(pg_catalog.+) step.words_read;
        cut_by_hand := cut_by_hand OPERATOR(pg_catalog.+) step.cut_by_hand;
        last_chatbot_id := step.last_chatbot_id;
        last_source_type := step.last_source_type;
        last_source_id := step.last_source_id;
        EXIT WHEN step.looked_at OPERATOR(pg_catalog.=) 0;
    END LOOP;
    IF refresh THEN
        RAISE NOTICE '% sources were made with other settings, and are cut and read anew', marked;
    END IF;
    IF words_read OPERATOR(pg_catalog.>) 0 THEN
        RAISE NOTICE 'the words of % sources that no table has were read anew', words_read;
    END IF;
    IF cut_by_hand OPERATOR(pg_catalog.>) 0 THEN
        RAISE NOTICE '% sources that no table has were cut with other settings: their text is not here, chatbot_embed_source() has to be given it again', cut_by_hand;
    END IF;
    PERFORM chatbot_sync.register_existing_rows();
    whole := chatbot_sync.count_pending(chatbot_id);
    LOOP
        SELECT * INTO step
        FROM chatbot_sync.sync_batch(chatbot_id, batch, last_chatbot_id, last_source_type, last_source_id) AS s;
        EXIT WHEN step.taken OPERATOR(pg_catalog.=) 0;
        -- In a transaction block that the caller began, only the caller may commit.
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        done := done OPERATOR(pg_catalog.+) step.taken;
        failed := failed OPERATOR(pg_catalog.+) step.failed;
        last_chatbot_id := step.last_chatbot_id;
        last_source_type := step.last_source_type;
        last_source_id := step.last_source_id;
        RAISE NOTICE '% of % sources, % failed', done, greatest(done, whole), failed;
        IF step.stopped IS NOT NULL THEN
            RAISE WARNING 'stopped: %', step.stopped USING HINT = 'What is not done is still pending: call it again.';
            EXIT;
        END IF;
    END LOOP;
    LOOP
        more := chatbot_sync.purge_log();
        IF NOT chatbot_sync.in_transaction_block() THEN
            COMMIT;
        END IF;
        EXIT WHEN NOT more;
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_sync.after_ddl() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changed oid;
BEGIN
    FOR changed IN
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_class'::regclass
    LOOP
        PERFORM chatbot_sync.follow_alter_table(changed);
    END LOOP;
    FOR changed IN
        SELECT t.tgrelid FROM pg_event_trigger_ddl_commands() AS c
        JOIN pg_trigger AS t ON t.oid = c.objid JOIN pg_proc AS p ON p.oid = t.tgfoid
        WHERE c.classid = 'pg_trigger'::regclass AND p.pronamespace = 'chatbot_sync'::regnamespace
    LOOP
        PERFORM chatbot_sync.follow_restored_triggers(changed);
    END LOOP;
    -- ALTER TYPE may have changed the values of columns of this type, also of a composite one: rows with such columns
    -- are compared with their sources.
    PERFORM chatbot_sync.reconcile_rewritten_tables(ARRAY(
        SELECT c.objid FROM pg_event_trigger_ddl_commands() AS c WHERE c.classid = 'pg_type'::regclass
        UNION
        SELECT r.reltype FROM pg_event_trigger_ddl_commands() AS c JOIN pg_class AS r ON r.oid = c.objid AND r.relkind = 'c'
        WHERE c.classid = 'pg_class'::regclass));
END
$$;

CREATE FUNCTION chatbot_sync.after_rewrite() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM chatbot_sync.note_table_rewrite(pg_event_trigger_table_rewrite_oid(), pg_event_trigger_table_rewrite_reason());
END
$$;

-- Marks sources whose terms were made with a text search configuration that changed. Names are written as in
-- chatbot_sync.source.text_search_configs; as_if replaces the name in these sources until their terms are made again.
CREATE FUNCTION chatbot_sync.mark_words_outdated(configuration text, as_if text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    marked bigint;
BEGIN
    UPDATE chatbot_sync.source AS s SET chunking[6] = 0, text_search_configs = array_replace(s.text_search_configs, configuration, as_if)
    WHERE s.text_search_configs @> ARRAY[configuration] AND s.chunk_count > 0;
    GET DIAGNOSTICS marked = ROW_COUNT;
    IF marked > 0 THEN
        RAISE NOTICE 'the words of % sources were read with % as it was: CALL chatbot_sync_all(refresh => true);', marked, configuration;
    END IF;
END
$$;

CREATE FUNCTION chatbot_sync.after_text_search() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c record;
    before text;
BEGIN
    FOR c IN
        SELECT DISTINCT x.oid, x.cfgname, x.cfgnamespace::regnamespace || '.' || quote_ident(x.cfgname) AS name, d.classid = 'pg_ts_dict'::regclass AS by_dictionary
        FROM pg_event_trigger_ddl_commands() AS d JOIN pg_ts_config AS x ON CASE d.classid
            WHEN 'pg_ts_config'::regclass THEN x.oid = d.objid
            WHEN 'pg_namespace'::regclass THEN x.cfgnamespace = d.objid
            WHEN 'pg_ts_dict'::regclass THEN EXISTS (SELECT FROM pg_ts_config_map AS m WHERE m.mapcfg = x.oid AND m.mapdict = d.objid)
        END
    LOOP
        -- A name in the sources that no configuration has any more is the former name of this one: the statement
        -- renamed it.
        before := NULL;
        IF NOT c.by_dictionary AND NOT EXISTS (SELECT FROM chatbot_sync.source AS s WHERE s.text_search_configs @> ARRAY[c.name]) THEN
            SELECT n.name INTO before FROM (SELECT DISTINCT unnest(s.text_search_configs) AS name FROM chatbot_sync.source AS s) AS n
            WHERE NOT EXISTS (SELECT FROM pg_ts_config AS x WHERE x.cfgnamespace::regnamespace || '.' || quote_ident(x.cfgname) = n.name)
            ORDER BY n.name LIKE '%.' || quote_ident(c.cfgname) DESC LIMIT 1;
        END IF;
        IF before IS NULL THEN
            PERFORM chatbot_sync.mark_words_outdated(c.name, c.name);
        ELSE
            UPDATE chatbot_sync.source AS s SET text_search_configs = array_replace(s.text_search_configs, before, c.name)
            WHERE s.text_search_configs @> ARRAY[before];
        END IF;
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_sync.after_drop() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    hosts int[];
    changed oid;
    chatbot bigint;
    gone text;
BEGIN
    FOR gone IN
        SELECT quote_ident(d.address_names[1]) || '.' || quote_ident(d.address_names[2]) FROM pg_event_trigger_dropped_objects() AS d
        WHERE d.object_type = 'text search configuration'
    LOOP
        PERFORM chatbot_sync.mark_words_outdated(gone, 'pg_catalog.simple');
    END LOOP;
    -- The extension's triggers that were dropped with their tables. Those that were dropped by name were detached, and their
    -- sources stay.
    SELECT array_agg(DISTINCT substring(d.address_names[3] FROM '^chatbot_sync_([0-9]+)_insert$')::int) INTO hosts
    FROM pg_event_trigger_dropped_objects() AS d
    WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] ~ '^chatbot_sync_[0-9]+_insert$';
    IF hosts IS NOT NULL THEN
        PERFORM chatbot_sync.delete_sources_of_dropped_tables(hosts);
    END IF;
    -- The table of chatbots was dropped, and with it every chatbot.
    IF EXISTS (
        SELECT FROM pg_event_trigger_dropped_objects() AS d
        WHERE d.object_type = 'trigger' AND NOT d.original AND d.address_names[3] = 'chatbot_sync_chatbots_delete'
    ) AND NOT EXISTS (SELECT FROM pg_trigger AS t WHERE t.tgname = 'chatbot_sync_chatbots_delete') THEN
        FOR chatbot IN SELECT s.chatbot_id FROM chatbot_sync.source AS s UNION SELECT s.chatbot_id FROM chatbot_sync.session AS s LOOP
            PERFORM @extschema@.chatbot_cleanup(chatbot);
        END LOOP;
    END IF;
    -- DROP TYPE ... CASCADE drops columns of this type.
    FOR changed IN
        SELECT DISTINCT d.objid FROM pg_event_trigger_dropped_objects() AS d JOIN pg_class AS c ON c.oid = d.objid
        WHERE d.object_type = 'table column'
    LOOP
        PERFORM chatbot_sync.follow_alter_table(changed);
    END LOOP;
END
$$;

CREATE EVENT TRIGGER chatbot_sync_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'CREATE TRIGGER', 'ALTER TYPE', 'CREATE FOREIGN TABLE', 'ALTER FOREIGN TABLE')
    EXECUTE FUNCTION chatbot_sync.after_ddl();
CREATE EVENT TRIGGER chatbot_sync_rewrite ON table_rewrite EXECUTE FUNCTION chatbot_sync.after_rewrite();
CREATE EVENT TRIGGER chatbot_sync_text_search ON ddl_command_end
    WHEN TAG IN ('ALTER TEXT SEARCH CONFIGURATION', 'ALTER TEXT SEARCH DICTIONARY', 'ALTER SCHEMA')
    EXECUTE FUNCTION chatbot_sync.after_text_search();
CREATE EVENT TRIGGER chatbot_sync_drop ON sql_drop EXECUTE FUNCTION chatbot_sync.after_drop();
