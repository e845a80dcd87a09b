-- A copy of a production database must send nothing to production's provider. This setting of the database stops
-- embedding in every session. To try embedding in the copy: ALTER DATABASE ... SET chatbot_sync.enabled = on
DO $neutralize$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'chatbot_sync') THEN
        -- The database's owner may only set it after the library is loaded, since the library defines the setting.
        PERFORM chatbot_chunk('');
        EXECUTE format('ALTER DATABASE %I SET chatbot_sync.enabled = off', current_database());
    END IF;
END
$neutralize$;

-- Stops the scheduled actions of this module.
UPDATE ir_cron
   SET active = false
 WHERE id IN (SELECT res_id FROM ir_model_data WHERE module = 'chatbot_sync' AND model = 'ir.cron');

-- No page is fetched, also not when a user asks for it. In the settings: "Fetch No Pages".
INSERT INTO ir_config_parameter (key, value)
VALUES ('chatbot_sync.fetch_paused', 'True')
    ON CONFLICT (key) DO UPDATE SET value = 'True';
