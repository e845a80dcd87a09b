# make demo     the main job on an embedded Postgres and a real manual: a tour in about a minute, after the first build
# make test     every test, on Postgres 16 and 15
# make check-all  the same on every major from 14 to 18 that can be had: 15, 16, 17 and 18 on Debian
# make test-citus  those of pg_test/citus.rs, which need a Postgres with Citus: make test-citus PG_CONFIG=/path/to/pg_config
# make test-odoo  the Odoo addon, in a real Odoo 19
# make fuzz     the property tests with many more cases: make fuzz PROPTEST_CASES=100000
# make soak     clients, faults, kills and a crash for three minutes, and then everything is compared: make soak DURATION=600
# make bench    the figures of bench/README.md
# make bench-search   how well and how fast it searches, in the same place
# make package  a .deb and a tarball in target/packages: make package PG_CONFIG=/usr/bin/pg_config, or MAJOR=17 for Debian's
# make release-schema  keeps the SQL of a release, for updates from it
# make install  into the Postgres of PG_CONFIG (its owner's rights are needed): make install PG_CONFIG=/usr/bin/pg_config
# Everything that is fetched goes to DEV, by default ~/.cache/chatbot_sync; `make clean-all` removes it.

SHELL := bash

.PHONY: demo test check-all test-citus test-odoo fuzz soak bench bench-search package release-schema install clean-all
demo test check-all test-citus test-odoo fuzz soak bench bench-search package release-schema install:
	@tools/$@.sh

clean-all:
	@. tools/env.sh && rm -rf "$$DEV" target
