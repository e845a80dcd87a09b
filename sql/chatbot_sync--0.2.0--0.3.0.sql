-- What ALTER EXTENSION chatbot_sync UPDATE changes in a database of 0.2.0. It rewrites no table. The result is compared
-- with a new installation, object by object (pg_test/upgrade.rs).

-- Jobs are found by indexes that have no others in them, however many wait or have failed.
DROP INDEX chatbot_sync.job_due;
CREATE INDEX job_due ON chatbot_sync.job (priority DESC, chatbot_id, due_at, id) WHERE due_at < 'infinity';
CREATE INDEX job_leased ON chatbot_sync.job (leased_by) WHERE leased_by > 0;
