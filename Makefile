# Targets with a line each: `make` alone prints them. What is fetched goes to DEV, by default ~/.cache/chatbot_sync.

SHELL := bash
TOOLS := demo test check-all test-citus test-odoo fuzz soak bench bench-search bench-languages bench-models bench-tokens package release-schema install model

.PHONY: help clean-all $(TOOLS)

help:
	@echo 'try it'
	@echo '  make demo            the main job on an embedded Postgres and a real manual: a minute, after the first build'
	@echo '  make install         into the Postgres of PG_CONFIG: make install PG_CONFIG=/usr/bin/pg_config'
	@echo '  make model           a sentence transformer for it: make model MODEL=all-MiniLM-L6-v2 PG_CONFIG=...'
	@echo '  make package         a .deb and a tarball in target/packages: PG_CONFIG=..., or MAJOR=17 for the one of Debian'
	@echo 'test it'
	@echo '  make test            format, linters, every test, on Postgres 16 and 15; FILTER=queue: only tests with that in their path'
	@echo '  make check-all       the same on every major from 14 to 18 that can be had'
	@echo '  make test-odoo       the Odoo module, in a real Odoo 19'
	@echo '  make test-citus      three nodes of a Postgres that has Citus: PG_CONFIG=...'
	@echo '  make fuzz            property tests with many cases: PROPTEST_CASES=100000'
	@echo '  make soak            clients, faults, kills and a crash, then everything is compared: DURATION=600'
	@echo 'measure it'
	@echo '  make bench           the figures of bench/README.md, as ratios within one run'
	@echo '  make bench-search    how well and how fast searches find'
	@echo '  make bench-languages how well they find in some twenty languages'
	@echo '  make bench-models    models in folders beside onnxruntime: equal vectors, chunks a second, memory'
	@echo '  make bench-tokens    tokenizers beside those of Hugging Face: TEXTS=20000'
	@echo 'release it'
	@echo '  make release-schema  keeps the SQL of a release, for updates from it'
	@echo '  make clean-all       removes what was fetched and built'

$(TOOLS):
	@tools/$@.sh

clean-all:
	@. tools/env.sh && rm -rf "$$DEV" target
