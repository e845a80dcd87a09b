-- Distribution over several machines with Citus, by chatbot: the tables that grow. The application's tables, the queue,
-- the log and the models stay on the coordinator; they are small, or only the coordinator reads and writes them.

-- The tables that are distributed, each after those that it refers to.
CREATE FUNCTION chatbot_sync.growing_tables() RETURNS SETOF name
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ VALUES ('source'::name), ('embedding'), ('session'), ('message') $$;

-- Runs a command on each worker node, in a transaction of its own; so it must be safe to repeat. Fails where one node
-- fails.
CREATE FUNCTION chatbot_sync.run_on_nodes(command text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    node record;
BEGIN
    FOR node IN SELECT * FROM run_command_on_workers(command) AS n WHERE NOT n.success LOOP
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = format('node %s:%s failed: %s', node.nodename, node.nodeport, node.result),
            DETAIL = command, HINT = 'Worker nodes need the libraries of pgvector and of chatbot_sync, and the roles that use them. Roles made in this transaction are not there yet.';
    END LOOP;
END
$$;

-- Runs a query that returns one text on a table, or on each of its shards where it is distributed. %s in the query is
-- the table's name.
CREATE FUNCTION chatbot_sync.run_in_each_shard(relation regclass, query text) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failed text;
    said text[];
BEGIN
    IF NOT chatbot_sync.is_distributed() THEN
        EXECUTE format('SELECT ARRAY(' || query || ')', relation) INTO said;
        RETURN said;
    END IF;
    SELECT array_agg(s.result) FILTER (WHERE s.success AND s.result <> ''), min(s.result) FILTER (WHERE NOT s.success) INTO said, failed
    FROM run_command_on_shards(relation, query) AS s;
    IF failed IS NOT NULL THEN
        RAISE object_not_in_prerequisite_state USING MESSAGE = format('a shard of %s failed: %s', relation, failed), DETAIL = query,
            HINT = 'Each node needs the versions that are here: SELECT * FROM chatbot_doctor() WHERE check_name LIKE ''node%'';';
    END IF;
    RETURN COALESCE(said, '{}');
END
$$;

-- Grants a role the extension's schemas on each node: Citus propagates grants on its tables, but not on an extension's
-- schemas.
CREATE FUNCTION chatbot_sync.grant_on_nodes(role_name name, statement text DEFAULT 'GRANT USAGE ON SCHEMA %I TO %I') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF chatbot_sync.is_distributed() THEN
        PERFORM chatbot_sync.run_on_nodes(format(statement, s, role_name))
        FROM (SELECT 'chatbot_sync'::name UNION ALL SELECT chatbot_sync.schemas_of_functions()) AS n (s);
    END IF;
END
$$;

-- The roles that have a level of chatbot_grant().
CREATE FUNCTION chatbot_sync.roles_with_level() RETURNS SETOF name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT r.rolname FROM pg_namespace AS n CROSS JOIN aclexplode(n.nspacl) AS a JOIN pg_roles AS r ON r.oid = a.grantee
    WHERE n.nspname = 'chatbot_sync' AND a.privilege_type = 'USAGE' AND r.oid <> n.nspowner
$$;

-- Checks that each worker node has this library and pgvector in the versions of the coordinator, and the same roles.
CREATE FUNCTION chatbot_sync.check_nodes() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    roles name[] := ARRAY(SELECT chatbot_sync.roles_with_level());
    versions text := (SELECT string_agg(format('%s %s', e.extname, e.extversion), ', ' ORDER BY e.extname)
        FROM pg_extension AS e WHERE e.extname IN ('vector', 'chatbot_sync'));
    node record;
    said text;
BEGIN
    IF NOT chatbot_sync.is_distributed() THEN
        RETURN;
    END IF;
    -- is_preloaded() is ours: it loads the library.
    FOR node IN SELECT * FROM run_command_on_workers(format($sql$
        SELECT concat_ws('; ', (SELECT string_agg(format('%%s %%s', e.extname, e.extversion), ', ' ORDER BY e.extname)
                FROM pg_extension AS e WHERE e.extname IN ('vector', 'chatbot_sync') AND chatbot_sync.is_preloaded() IS NOT NULL),
            'without rights: ' || (SELECT string_agg(r, ', ') FROM unnest(%L::name[]) AS r
                LEFT JOIN pg_roles AS p ON p.rolname = r
                WHERE p.oid IS NULL OR NOT has_schema_privilege(p.oid, 'chatbot_sync', 'USAGE')))
        $sql$, roles))
    LOOP
        check_name := CASE WHEN node.success THEN 'nodes' ELSE 'node down' END;
        status := CASE WHEN node.success AND node.result = versions THEN 'ok' ELSE 'error' END;
        detail := format('%s:%s: %s', node.nodename, node.nodeport, node.result);
        hint := CASE WHEN NOT node.success THEN 'Nothing about the chatbots that it has works before it does.' WHEN status <> 'ok' THEN format('It should have %s: install both there and ALTER EXTENSION ... UPDATE; for a role, SELECT chatbot_grant(''role''); again.', versions) END;
        RETURN NEXT;
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_sync.require_citus() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'citus');
BEGIN
    IF version IS NULL THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'this database has no Citus',
            HINT = 'Preload it on each node (shared_preload_libraries = ''citus, chatbot_sync''), CREATE EXTENSION citus; and then SELECT citus_set_coordinator_host() and citus_add_node().';
    ELSIF string_to_array(split_part(version, '-', 1), '.')::int[] < ARRAY[14, 0] THEN
        RAISE feature_not_supported USING
            MESSAGE = format('Citus is version %s, expected 14.0 or later', version), HINT = 'ALTER EXTENSION citus UPDATE;';
    ELSIF NOT citus_is_coordinator() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'this node is no coordinator', HINT = 'Call it where the application''s tables are, after SELECT citus_set_coordinator_host(...);';
    END IF;
END
$$;

-- Makes the functions that applications call run as the owner, or as the caller again. Citus has one connection for
-- each role, and does not let one role read what another has written in the same transaction; triggers write as the
-- owner.
CREATE FUNCTION chatbot_sync.run_functions_as_owner(yes boolean) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure;
BEGIN
    FOR f IN SELECT g FROM chatbot_sync.functions_of_level('app') AS g JOIN pg_proc AS p ON p.oid = g
        WHERE p.proname IN ('chatbot_search', 'chatbot_embed_source', 'chatbot_delete_source', 'chatbot_cleanup', 'chatbot_retry',
            'chatbot_enqueue_source', 'chatbot_session_open', 'chatbot_session_add_message', 'chatbot_session_messages', 'chatbot_session_close')
    LOOP
        EXECUTE format('ALTER FUNCTION %s %s', f, CASE WHEN yes THEN 'SECURITY DEFINER SET search_path = pg_catalog, pg_temp'
            ELSE 'SECURITY INVOKER RESET search_path' END);
    END LOOP;
    PERFORM chatbot_sync.run_views_as_caller(NOT yes);
END
$$;

-- Drops the indexes of all models and returns their ids. Building an index after the rows were moved takes a fraction
-- of the time of inserting them one by one.
CREATE FUNCTION chatbot_sync.save_and_drop_indexes() RETURNS int[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    indexed int[] := ARRAY(SELECT m.id FROM chatbot_sync.model AS m WHERE m.indexed);
BEGIN
    PERFORM @extschema@.chatbot_drop_index(i) FROM unnest(indexed) AS i;
    RETURN indexed;
END
$$;

CREATE FUNCTION chatbot_sync.recreate_indexes(indexed int[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    i int;
BEGIN
    FOREACH i IN ARRAY indexed LOOP
        RAISE NOTICE 'model %: making its indexes', i;
        CALL @extschema@.chatbot_create_index(i, concurrent => false);
    END LOOP;
END
$$;

CREATE FUNCTION chatbot_distribute(shard_count int DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    said text := current_setting('client_min_messages');
    t name;
    moved bigint;
    e record;
    indexed int[];
BEGIN
    IF shard_count NOT BETWEEN 1 AND 64000 THEN
        RAISE invalid_parameter_value USING
            MESSAGE = format('shard_count is %s, expected 1 to 64000, or NULL', shard_count),
            HINT = 'NULL: what citus.shard_count says. It cannot be changed without chatbot_undistribute().';
    END IF;
    PERFORM chatbot_sync.require_citus();
    IF chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are distributed already', HINT = 'For another number of shards, SELECT chatbot_undistribute(); first.';
    END IF;
    indexed := chatbot_sync.save_and_drop_indexes();
    -- Before the tables, so that it can be seen from elsewhere. Citus makes extensions that it finds needed, but in this
    -- transaction.
    FOR e IN SELECT x.extname, x.extversion, n.nspname FROM pg_extension AS x JOIN pg_namespace AS n ON n.oid = x.extnamespace
        WHERE x.extname IN ('vector', 'chatbot_sync') ORDER BY x.extname DESC
    LOOP
        PERFORM chatbot_sync.run_on_nodes(format('DO $do$ BEGIN SET LOCAL citus.enable_ddl_propagation TO off;
            CREATE SCHEMA IF NOT EXISTS %1$I; CREATE EXTENSION IF NOT EXISTS %2$I SCHEMA %1$I VERSION %3$L; END $do$',
            e.nspname, e.extname, e.extversion));
    END LOOP;
    -- The rows of a child find their parents only if no two sessions of Citus write them.
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('LOCK TABLE chatbot_sync.%I IN ACCESS EXCLUSIVE MODE', t);
    END LOOP;
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('SELECT count(*) FROM chatbot_sync.%I', t) INTO moved;
        RAISE NOTICE 'chatbot_sync.%: % rows', t, moved;
        -- It says a lot, and what is to be done next, which is done here.
        PERFORM set_config('client_min_messages', 'warning', true);
        IF t = 'source' THEN
            PERFORM create_distributed_table('chatbot_sync.source', 'chatbot_id', colocate_with => 'none',
                shard_count => COALESCE(shard_count, current_setting('citus.shard_count')::int));
        ELSE
            PERFORM create_distributed_table(format('chatbot_sync.%I', t)::regclass, 'chatbot_id', colocate_with => 'chatbot_sync.source');
        END IF;
        PERFORM set_config('client_min_messages', said, true);
    END LOOP;
    PERFORM set_config('client_min_messages', 'warning', true);
    PERFORM truncate_local_data_after_distributing_table('chatbot_sync.source'),
        truncate_local_data_after_distributing_table('chatbot_sync.session');
    PERFORM set_config('client_min_messages', said, true);
    PERFORM chatbot_sync.grant_on_nodes(r) FROM chatbot_sync.roles_with_level() AS r;
    PERFORM chatbot_sync.run_functions_as_owner(true);
    -- With several connections to a node, a row that one has locked is waited for by another, for ever: the rows of a source
    -- and of its chunks are in several statements.
    EXECUTE format('ALTER DATABASE %I SET citus.max_adaptive_executor_pool_size = 1', current_database());
    RAISE NOTICE 'sessions that are open should connect anew: citus.max_adaptive_executor_pool_size is 1 from now on';
    PERFORM chatbot_sync.recreate_indexes(indexed);
    RAISE NOTICE 'distributed over % shards on % nodes',
        (SELECT count(*) FROM pg_dist_shard AS s WHERE s.logicalrelid = 'chatbot_sync.source'::regclass),
        (SELECT count(DISTINCT p.groupid) FROM pg_dist_shard AS s JOIN pg_dist_placement AS p USING (shardid)
            WHERE s.logicalrelid = 'chatbot_sync.source'::regclass);
END
$$;

CREATE FUNCTION chatbot_undistribute() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t name;
    relation regclass;
    moved bigint;
    indexed int[];
BEGIN
    PERFORM chatbot_sync.require_citus();
    IF NOT chatbot_sync.is_distributed() THEN
        RAISE object_not_in_prerequisite_state USING
            MESSAGE = 'the tables are not distributed', HINT = 'Nothing is to be done.';
    END IF;
    PERFORM set_config('citus.multi_shard_modify_mode', 'sequential', true);
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('LOCK TABLE chatbot_sync.%I IN ACCESS EXCLUSIVE MODE', t);
    END LOOP;
    indexed := chatbot_sync.save_and_drop_indexes();
    -- undistribute_table() takes no table of an extension. The rows are put aside, the shards dropped as Citus drops those of
    -- a table that is dropped, and the rows come back.
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('CREATE TEMP TABLE chatbot_sync_%1$s ON COMMIT DROP AS TABLE chatbot_sync.%1$I', t);
    END LOOP;
    FOR t IN SELECT n FROM chatbot_sync.growing_tables() WITH ORDINALITY AS g (n, place) ORDER BY place DESC LOOP
        relation := format('chatbot_sync.%I', t)::regclass;
        PERFORM master_remove_distributed_table_metadata_from_workers(relation, 'chatbot_sync', t);
        PERFORM citus_drop_all_shards(relation, 'chatbot_sync', t);
        PERFORM master_remove_partition_metadata(relation, 'chatbot_sync', t);
    END LOOP;
    FOR t IN SELECT chatbot_sync.growing_tables() LOOP
        EXECUTE format('INSERT INTO chatbot_sync.%1$I SELECT * FROM pg_temp.chatbot_sync_%1$s', t);
        GET DIAGNOSTICS moved = ROW_COUNT;
        RAISE NOTICE 'chatbot_sync.%: % rows', t, moved;
    END LOOP;
    PERFORM chatbot_sync.run_functions_as_owner(false);
    PERFORM chatbot_sync.recreate_indexes(indexed);
    EXECUTE format('ALTER DATABASE %I RESET citus.max_adaptive_executor_pool_size', current_database());
END
$$;
