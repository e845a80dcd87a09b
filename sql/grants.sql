-- Privileges. Nothing is granted to PUBLIC; chatbot_grant() gives a role one of three levels.

-- Returns the functions of a level. This list is the only place that assigns functions to levels; a level includes
-- those before it.
CREATE FUNCTION chatbot_sync.functions_of_level(level text) RETURNS SETOF regprocedure
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT p.oid::regprocedure
    FROM pg_proc p
    JOIN pg_depend d ON d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    JOIN pg_extension e ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND e.extname = 'chatbot_sync'
    JOIN (VALUES
        ('chatbot_search', 1), ('chatbot_embed', 1), ('chatbot_chunk', 1),
        ('chatbot_embed_source', 2), ('chatbot_delete_source', 2), ('chatbot_cleanup', 2),
        ('chatbot_session_open', 2), ('chatbot_session_add_message', 2), ('chatbot_session_messages', 2),
        ('chatbot_session_close', 2), ('chatbot_attach', 2), ('chatbot_attach_chatbots', 2), ('chatbot_detach', 2),
        ('chatbot_sync_all', 2), ('register_existing_rows', 2), ('count_pending', 2), ('sync_batch', 2), ('refresh_batch', 2), ('in_transaction_block', 2), ('host_changed', 2),
        ('chatbot_enqueue_source', 2), ('chatbot_retry', 2), ('chatbot_process_queue', 2), ('queue_claim', 2),
        ('queue_embed', 2), ('queue_store', 2), ('queue_write_status', 2), ('purge_log', 2),
        ('host_status', 2), ('host_truncated', 2), ('chatbots_deleted', 2),
        ('chatbot_estimate', 2), ('chatbot_metrics', 1), ('chatbot_doctor', 2), ('chatbot_verify', 3), ('chatbot_repair', 3), ('chatbot_set_model', 3), ('chatbot_add_source_type', 3), ('chatbot_drop_source_type', 3), ('chatbot_reembed', 3), ('chatbot_drop_model', 3),
        ('reembed_begin', 3), ('reembed_batch', 3), ('activate_next_model', 3), ('drop_vectors', 3), ('drop_model_file', 3), ('chatbot_create_index', 3), ('chatbot_drop_index', 3), ('record_wanted_index', 3), ('default_quantization', 3), ('measure_recall_of_bits', 3), ('has_half_type', 3), ('is_distributed', 1),
        ('build_indexes', 3), ('start_index_build', 3), ('wait_for_index_build', 3)
    ) AS f (name, least) ON f.name = p.proname
    WHERE f.least <= CASE level WHEN 'read' THEN 1 WHEN 'app' THEN 2 WHEN 'admin' THEN 3 END
$$;

-- The schemas of the extension's functions and of pgvector's operators, unless PUBLIC may use them already.
CREATE FUNCTION chatbot_sync.schemas_of_functions() RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT DISTINCT n.nspname
    FROM pg_extension e
    JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname IN ('chatbot_sync', 'vector') AND NOT EXISTS (
        SELECT FROM aclexplode(n.nspacl) AS a WHERE a.grantee = 0 AND a.privilege_type = 'USAGE')
$$;

CREATE FUNCTION chatbot_revoke(role_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
    s name;
BEGIN
    IF role_name IS NULL THEN
        RAISE null_value_not_allowed USING MESSAGE = 'role_name is NULL', HINT = 'Name a role.';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
        RAISE undefined_object USING
            MESSAGE = format('role "%s" does not exist', role_name), HINT = 'Nothing is granted to PUBLIC.';
    END IF;
    FOR f IN SELECT chatbot_sync.functions_of_level('admin') LOOP
        EXECUTE format('REVOKE ALL ON ROUTINE %s FROM %I', f, role_name);
    END LOOP;
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA chatbot_sync FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA chatbot_sync FROM %I', role_name);
    EXECUTE format('REVOKE ALL ON SCHEMA chatbot_sync FROM %I', role_name);
    FOR s IN SELECT chatbot_sync.schemas_of_functions() LOOP
        EXECUTE format('REVOKE USAGE ON SCHEMA %I FROM %I', s, role_name);
    END LOOP;
    PERFORM chatbot_sync.grant_on_nodes(role_name, 'REVOKE USAGE ON SCHEMA %I FROM %I');
END
$$;

CREATE FUNCTION chatbot_grant(role_name name, level text DEFAULT 'app') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
    s name;
BEGIN
    IF role_name IS NULL OR level IS NULL THEN
        RAISE null_value_not_allowed USING
            MESSAGE = format('%s is NULL', CASE WHEN role_name IS NULL THEN 'role_name' ELSE 'level' END),
            HINT = 'Name a role, and one of the levels app, read, admin.';
    END IF;
    IF level NOT IN ('app', 'read', 'admin') THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('level is "%s", expected one of app, read, admin', level),
            HINT = 'app: an application''s role; read: search and status; admin: an application''s role that also chooses the model.';
    END IF;
    -- The level is what the role has afterwards, not what is added.
    PERFORM @extschema@.chatbot_revoke(role_name);
    EXECUTE format('GRANT USAGE ON SCHEMA chatbot_sync TO %I', role_name);
    FOR s IN SELECT chatbot_sync.schemas_of_functions() LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', s, role_name);
    END LOOP;
    PERFORM chatbot_sync.grant_on_nodes(role_name);
    FOR f IN SELECT chatbot_sync.functions_of_level(level) LOOP
        EXECUTE format('GRANT EXECUTE ON ROUTINE %s TO %I', f, role_name);
    END LOOP;
    IF level = 'read' THEN
        EXECUTE format('GRANT SELECT ON chatbot_sync.source_type, chatbot_sync.source, chatbot_sync.embedding, chatbot_sync.model, chatbot_sync.sync_log, chatbot_sync.sync_total,
            chatbot_sync.model_index, chatbot_sync.host_table, chatbot_sync.progress, chatbot_sync.source_status, chatbot_sync.stats, chatbot_sync.job TO %I', role_name);
    ELSE
        -- An application's own backup reads all of it, and its restore writes all of it.
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA chatbot_sync TO %I', role_name);
        EXECUTE format('GRANT USAGE, SELECT, UPDATE ON ALL SEQUENCES IN SCHEMA chatbot_sync TO %I', role_name);
    END IF;
END
$$;

-- Gives each role its level again after ALTER EXTENSION UPDATE, which may bring new functions. The update script cannot
-- do it: what it grants would count as the extension's own privileges, and would be missing from dumps.
CREATE FUNCTION chatbot_sync.after_update() RETURNS event_trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    granted record;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_event_trigger_ddl_commands() AS c WHERE c.object_type = 'extension' AND c.object_identity = 'chatbot_sync') THEN
        RETURN;
    END IF;
    FOR granted IN
        SELECT a.grantee AS role,
            CASE WHEN bool_or(p.proname = 'chatbot_set_model') THEN 'admin' WHEN bool_or(p.proname = 'chatbot_embed_source') THEN 'app' ELSE 'read' END AS level
        FROM chatbot_sync.functions_of_level('admin') AS f
        JOIN pg_proc AS p ON p.oid = f
        CROSS JOIN LATERAL aclexplode(p.proacl) AS a
        WHERE a.grantee <> p.proowner AND a.grantee <> 0
        GROUP BY a.grantee HAVING bool_or(p.proname = 'chatbot_search')
    LOOP
        PERFORM @extschema@.chatbot_grant((SELECT r.rolname FROM pg_roles AS r WHERE r.oid = granted.role), granted.level);
    END LOOP;
END
$$;
CREATE EVENT TRIGGER chatbot_sync_update ON ddl_command_end WHEN TAG IN ('ALTER EXTENSION')
    EXECUTE FUNCTION chatbot_sync.after_update();
