-- What an index has of each vector: the whole (none), a half, or a bit a dimension (binary).

-- The share of the ten nearest chunks that are among the 40 nearest by bits: of 20 chunks, each compared with the first 2000.
-- NULL where there are fewer than 1000. Bits tell vectors apart whose dimensions are positive as often as negative, which is not
-- so of every model.
CREATE FUNCTION chatbot_sync.measure_recall_of_bits(model_id int) RETURNS real
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    recall real;
BEGIN
    EXECUTE (SELECT format(
        'WITH sample AS MATERIALIZED (
            SELECT row_number() OVER () AS n, v.vector, %1$s.binary_quantize(v.vector) AS bits
            FROM (SELECT e.%2$I AS vector FROM chatbot_sync.embedding AS e WHERE e.model_id = $1 AND e.%2$I IS NOT NULL LIMIT 2000) AS v
        )
        SELECT avg((
            SELECT count(*) FROM (
                SELECT s.n FROM sample AS s ORDER BY s.vector OPERATOR(%1$s.<=>) q.vector LIMIT 10
            ) AS near
            WHERE near.n = ANY (ARRAY(SELECT s.n FROM sample AS s ORDER BY s.bits OPERATOR(%1$s.<~>) q.bits LIMIT 40))
        )) / 10
        FROM (SELECT * FROM sample ORDER BY n %% 97, n LIMIT 20) AS q
        HAVING (SELECT count(*) FROM sample) >= 1000',
        x.extnamespace::regnamespace, CASE WHEN m.options ->> 'storage' = 'half' THEN 'embedding_half' ELSE 'embedding' END)
        FROM pg_extension AS x, chatbot_sync.model AS m WHERE x.extname = 'vector' AND m.id = measure_recall_of_bits.model_id)
    INTO recall USING model_id;
    RETURN recall;
END
$$;

-- The quantization of a model's index where none is asked for: that of its last index or, where it has none, bits from 768
-- dimensions on where they find .98 of the nearest chunks, and else halves.
CREATE FUNCTION chatbot_sync.default_quantization(model_id int) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.id = model_id;
    RETURN CASE
        WHEN m.quantization IS NOT NULL THEN m.quantization
        WHEN NOT chatbot_sync.has_half_type() OR m.indexed THEN 'none'
        WHEN m.dimensions >= 768 AND chatbot_sync.measure_recall_of_bits(m.id) >= 0.98 THEN 'binary'
        WHEN m.options ->> 'storage' = 'half' OR m.dimensions > 2000 THEN 'none'
        ELSE 'half'
    END;
END
$$;

-- Bytes of an HNSW index for each chunk: its vector, 330 for its neighbours and headers, and what of a page stays empty.
CREATE FUNCTION chatbot_sync.index_bytes(quantization text, dimensions int, storage text) RETURNS numeric
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
    SELECT greatest(v.bytes + 330, CASE WHEN v.bytes + 84 > 8160 THEN 8192 ELSE round(8192.0 / (8160 / (v.bytes + 84))) END)
    FROM (SELECT CASE
        WHEN quantization = 'binary' THEN 8 + (dimensions + 7) / 8
        WHEN quantization = 'half' OR storage = 'half' OR dimensions > 2000 THEN 8 + 2 * dimensions
        ELSE 8 + 4 * dimensions END AS bytes) AS v
$$;

-- What chatbot_doctor() says of the memory of the active model's index, in each form that it may have.
CREATE FUNCTION chatbot_sync.check_index_memory() RETURNS TABLE (check_name text, status text, detail text, hint text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    m record;
    chunks bigint;
    said text;
BEGIN
    SELECT * INTO m FROM chatbot_sync.model AS x WHERE x.active;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    SELECT sum(s.chunk_count) INTO chunks FROM chatbot_sync.source AS s;
    -- An index of fewer chunks fits into any machine's memory.
    IF NOT m.indexed AND COALESCE(chunks, 0) < 100000 THEN
        RETURN;
    END IF;
    SELECT string_agg(format('%s %s', f.form, pg_size_pretty(
        (chunks * chatbot_sync.index_bytes(f.form, m.dimensions, m.options ->> 'storage'))::bigint)), ', ' ORDER BY f.place)
    INTO said
    FROM (VALUES (1, 'none', 4000), (2, 'half', 4000), (3, 'binary', 16000)) AS f (place, form, most)
    WHERE m.dimensions <= f.most AND (f.form = 'none' OR chatbot_sync.has_half_type());
    RETURN QUERY SELECT 'index memory', 'ok',
        format('HNSW over %s chunks by quantization: %s; %s', chunks, said,
            CASE WHEN m.indexed THEN format('there is %s', COALESCE(m.quantization, 'none'))
                ELSE format('the default is %s', chatbot_sync.default_quantization(m.id)) END),
        NULL::text;
END
$$;
