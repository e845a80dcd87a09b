-- How rows of chunks are laid out in pages. No change here rewrites a table: rows that are stored later have the new layout.

-- Changes the table of chunks. Citus does not pass such changes on to its shards.
CREATE FUNCTION chatbot_sync.alter_chunks(change text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    failed text;
    propagates text;
BEGIN
    IF chatbot_sync.is_distributed() THEN
        -- A shard that this transaction has written to cannot be waited for.
        SELECT s.result INTO failed FROM run_command_on_shards('chatbot_sync.embedding',
            format('DO $do$ BEGIN SET LOCAL lock_timeout = ''10s''; ALTER TABLE %%s %s; END $do$', change)) AS s
        WHERE NOT s.success LIMIT 1;
        IF failed IS NOT NULL THEN
            RAISE object_in_use USING MESSAGE = format('a shard could not be altered: %s', failed),
                HINT = 'Do it in a transaction of its own, while nobody embeds.';
        END IF;
        propagates := current_setting('citus.enable_ddl_propagation');
        PERFORM set_config('citus.enable_ddl_propagation', 'off', true);
    END IF;
    EXECUTE 'ALTER TABLE chatbot_sync.embedding ' || change;
    IF propagates IS NOT NULL THEN
        PERFORM set_config('citus.enable_ddl_propagation', propagates, true);
    END IF;
END
$$;

-- Stores vectors in the row itself or, where they would not fit into a page, in the TOAST table. Texts and words leave a row
-- that would be longer than row_bytes: the number of rows that share a page depends on the length of vectors. Locks the table
-- only where something changes.
CREATE FUNCTION chatbot_sync.set_row_layout(in_line boolean, row_bytes int) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    changes text;
BEGIN
    SELECT string_agg(format('ALTER COLUMN %I SET STORAGE %s', a.attname, CASE WHEN in_line THEN 'PLAIN' ELSE 'EXTERNAL' END), ', ')
    INTO changes FROM pg_attribute AS a
    WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname IN ('embedding', 'embedding_half')
        AND a.attstorage <> CASE WHEN in_line THEN 'p' ELSE 'e' END;
    IF format('toast_tuple_target=%s', row_bytes) <> ALL (COALESCE(
        (SELECT c.reloptions FROM pg_class AS c WHERE c.oid = 'chatbot_sync.embedding'::regclass), '{toast_tuple_target=2032}'))
    THEN
        changes := concat_ws(', ', changes, format('SET (toast_tuple_target = %s)', row_bytes));
    END IF;
    IF changes IS NOT NULL THEN
        PERFORM chatbot_sync.alter_chunks(changes);
    END IF;
END
$$;

-- Adds the column of vectors in half precision, which needs pgvector 0.7 or later; returns whether it is there.
CREATE FUNCTION chatbot_sync.add_half_column() RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    half regtype;
    storage "char";
BEGIN
    IF EXISTS (SELECT FROM pg_attribute AS a
        WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname = 'embedding_half' AND NOT a.attisdropped)
    THEN
        RETURN true;
    END IF;
    SELECT t.oid INTO half FROM pg_extension AS e
    JOIN pg_depend AS d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_type'::regclass
        AND d.deptype = 'e'
    JOIN pg_type AS t ON t.oid = d.objid
    WHERE e.extname = 'vector' AND t.typname = 'halfvec';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    SELECT a.attstorage INTO storage FROM pg_attribute AS a
    WHERE a.attrelid = 'chatbot_sync.embedding'::regclass AND a.attname = 'embedding';
    EXECUTE format('ALTER TABLE chatbot_sync.embedding ADD COLUMN embedding_half %s', half);
    EXECUTE 'ALTER TABLE chatbot_sync.embedding ALTER COLUMN embedding DROP NOT NULL';
    PERFORM chatbot_sync.alter_chunks(format('ALTER COLUMN embedding_half SET STORAGE %s',
        CASE WHEN storage = 'p' THEN 'PLAIN' ELSE 'EXTERNAL' END));
    COMMENT ON COLUMN chatbot_sync.embedding.embedding IS 'The vector; NULL where it is stored in half precision.';
    COMMENT ON COLUMN chatbot_sync.embedding.embedding_half IS 'The vector in half precision, of a model with the option storage half.';
    RETURN true;
END
$$;
