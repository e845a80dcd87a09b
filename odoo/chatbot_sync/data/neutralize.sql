-- A copy of a production database sends nothing to production's provider: nothing is embedded here, whatever session asks for
-- it. To try embedding in the copy: ALTER DATABASE ... SET chatbot_sync.enabled = on
DO $neutralize$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'chatbot_sync') THEN
        -- A setting may be given to a database by its owner once its library is loaded.
        PERFORM chatbot_chunk('');
        EXECUTE format('ALTER DATABASE %I SET chatbot_sync.enabled = off', current_database());
    END IF;
END
$neutralize$;

-- Its scheduled actions rest.
UPDATE ir_cron
   SET active = false
 WHERE id IN (SELECT res_id FROM ir_model_data WHERE module = 'chatbot_sync' AND model = 'ir.cron');

-- It fetches no page, not even where a user asks for it. Settings: "Fetch No Pages"
INSERT INTO ir_config_parameter (key, value)
VALUES ('chatbot_sync.fetch_paused', 'True')
    ON CONFLICT (key) DO UPDATE SET value = 'True';
