# make demo     the main job on an embedded Postgres and a real manual: a tour in about a minute, after the first build
# make test     every test
# make test-citus  those of pg_test/citus.rs, which need a Postgres with Citus: make test-citus PG_CONFIG=/path/to/pg_config
# make bench    the figures of bench/README.md
# make install  into the Postgres of PG_CONFIG (its owner's rights are needed): make install PG_CONFIG=/usr/bin/pg_config
# Everything that is fetched goes to DEV, by default ~/.cache/chatbot_sync; `make clean-all` removes it.

SHELL := bash

.PHONY: demo test test-citus bench install clean-all
demo test test-citus bench install:
	@tools/$@.sh

clean-all:
	@. tools/env.sh && rm -rf "$$DEV" target
