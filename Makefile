# lpusers: users of a LivePerson account from SQL.
#
#   make, make install, make installcheck     as any PGXS extension
#   make DEVEL=1                              more warnings, for developers
#   make installcheck TAP_TESTS=              without the TAP tests
#   make check-version                        do all files name the same version?
#   make test/reader_diff && test/reader_diff test/corpus/reader/*   the reader of lists against json-c
#   make dist                                 the archives of the last commit, as for PGXN

EXTENSION = lpusers
MODULE_big = lpusers
EXTVERSION = 1.0

# where the sources are, if not here: make -f ../Makefile VPATH=.., as Debian's packages are built
TOP = $(if $(filter-out .,$(VPATH)),$(VPATH)/)
OBJS = $(patsubst $(TOP)%.c,%.o,$(sort $(wildcard $(TOP)src/*.c $(TOP)src/*/*.c)))
# released scripts, and that of this version, made of its parts
CREATE_SCRIPT = src/lpusers--$(EXTVERSION).sql
CREATE_PARTS = $(patsubst %,$(TOP)src/sql/%.sql,wrapper requests functions queue operator sync report grants)
DATA = $(filter-out $(CREATE_SCRIPT),$(patsubst $(TOP)%,%,$(sort $(wildcard $(TOP)src/lpusers--*.sql))))
DATA_built = $(CREATE_SCRIPT)
OUR_HEADERS = $(wildcard $(TOP)src/*.h $(TOP)src/*/*.h)
PGFILEDESC = "lpusers - users of a LivePerson account from SQL"

REGRESS = create_extension settings server_options server_lookup secret_files base_url service_discovery bearer_tokens \
	validate_users create_users_payload response_status response_body one_call_one_request check_account \
	request_log create_users_result rollback_warning connection_failures database_encodings column_to_json \
	login_case json_to_column fdw_responses fdw_columns fdw_objects fdw_import fdw_pushdown fdw_scan fdw_rescan \
	fdw_system_columns api_versions fdw_insert fdw_update fdw_delete fdw_write_errors fdw_modify max_changes trigger_arguments \
	attach_trigger trigger_partitions trigger_rights enqueue_rows queue_source_rows queue_duplicate_logins queue_table_extended \
	request_ownership enqueue_users enqueue_changes deliver_changes queue_update_triggers account_wide_responses \
	queue_login_exists status_verdicts deliver_users backlog report sync_define sync_diff sync_plan sync_run sync_report \
	drop_extension
# each test file runs beside a stand-in account of its own; they show characters beyond ASCII, whatever the cluster's encoding
REGRESS_OPTS = --inputdir=. --encoding=UTF8 --no-locale --launcher=$(CURDIR)/test/with_account
ISOLATION = queue_concurrent_sessions fdw_recheck_updated_rows
ISOLATION_OPTS = --launcher="$(CURDIR)/test/with_account $(CURDIR)/test/without_worker"
TAP_TESTS ?= 1
PROVE_TESTS ?= test/t/*.pl
EXTRA_CLEAN = test/lpsim/lpsim test/slowdns.so test/certs test/reader_diff test/bench/limit_reader

ifdef DEVEL
PG_CFLAGS += -Werror -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers -Wshadow=local
endif
PG_CPPFLAGS += -I$(TOP)src -DLPU_VERSION='"$(EXTVERSION)"' $(shell curl-config --cflags) $(shell pkg-config --cflags json-c)
SHLIB_LINK += $(shell curl-config --libs) $(shell pkg-config --libs json-c)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# from 16 on PGXS does; src/base/compat.h marks what is exported
ifeq ($(MAJORVERSION),15)
override CFLAGS += -fvisibility=hidden
endif

$(OBJS): $(OUR_HEADERS)
ifdef VPATH						# a build outside of the source tree
$(shell mkdir -p $(sort $(dir $(OBJS))))
endif

$(CREATE_SCRIPT): $(CREATE_PARTS)
	cat $^ > $@

installcheck: installcheck-needs test/lpsim/lpsim test/slowdns.so test/certs/ca.pem

# What the tests need of this machine, before one of them fails for want of it.
.PHONY: installcheck-needs
installcheck-needs:
	@for program in curl openssl; do \
		command -v $$program >/dev/null || { echo "installcheck: $$program is missing" >&2; exit 1; }; \
	done
	@psql=$$(command -v $(bindir)/psql || command -v psql); \
	ask() { $$psql -XAtqd postgres -c "$$1"; }; \
	super=$$(ask "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") || \
		{ echo "installcheck: no connection; it needs a running server and a role with your name (PGUSER), say: sudo -u postgres createuser --superuser $$(id -un)" >&2; exit 1; }; \
	[ "$$super" = t ] || { echo "installcheck: the role must be a superuser" >&2; exit 1; }; \
	ask "SELECT pg_catalog.pg_read_file('$(CURDIR)/Makefile', 0, 1)" >/dev/null || \
		{ echo "installcheck: the server cannot read $(CURDIR); its operating-system user needs the right to enter each directory above it" >&2; exit 1; }

# The stand-in account: what the tests and the demonstration talk to.
test/lpsim/lpsim: $(wildcard $(TOP)test/lpsim/*.c) $(wildcard $(TOP)test/lpsim/*.h)
	@mkdir -p $(@D)
	$(CC) -std=gnu99 -O2 -g -Wall -Wextra $(if $(DEVEL),-Werror) $(shell pkg-config --cflags json-c libmicrohttpd) \
		-o $@ $(filter %.c,$^) $(shell pkg-config --libs json-c libmicrohttpd) -lpthread -lm

# The reader of lists, without a server: held against json-c, and measured.
READER = src/json/array_reader.c src/json/object_scanner.c src/json/lexer.c test/standalone.c
test/reader_diff: test/reader_diff.c test/reader_compare.c $(READER) $(OUR_HEADERS) $(wildcard test/*.h)
test/bench/limit_reader: test/bench/limit_reader.c $(READER) $(OUR_HEADERS) $(wildcard test/*.h)
test/reader_diff test/bench/limit_reader:
	$(CC) -std=gnu99 -O2 -g -Wall -Wextra -Wno-sign-compare $(if $(DEVEL),-Werror) -Isrc -isystem $(includedir_server) \
		-D_GNU_SOURCE $(shell pkg-config --cflags json-c) -o $@ $(filter %.c,$^) \
		-L$(pkglibdir) -L$(libdir) -lpgcommon -lpgport $(shell pkg-config --libs json-c)

# A resolver that hangs, to be preloaded.
test/slowdns.so: test/slowdns.c
	$(CC) -std=gnu99 -O2 -g -Wall -Wextra $(if $(DEVEL),-Werror) -shared -fPIC -o $@ $< -ldl

test/certs/ca.pem: test/certs.sh
	bash test/certs.sh test/certs

.PHONY: check-version
check-version:
	@control=$$(sed -n "s/^default_version *= *'\(.*\)'/\1/p" lpusers.control); \
	meta=$$(sed -n 's/^ *"version": "\([0-9]*\.[0-9]*\)\.[0-9]*",/\1/p' META.json | sort -u); \
	changes=$$(sed -n 's/^## \([0-9]*\.[0-9]*\)\.[0-9]*.*/\1/p' CHANGELOG.md | head -n 1); \
	debian=$$(sed -n '1s/^lpusers (\([0-9]*\.[0-9]*\)\.[0-9]*).*/\1/p' debian/changelog); \
	if [ "$$control" = "$(EXTVERSION)" ] && [ "$$meta" = "$$control" ] && [ "$$changes" = "$$control" ] && [ "$$debian" = "$$control" ]; \
	then echo "check-version: $$control everywhere"; \
	else echo "check-version: Makefile $(EXTVERSION), control $$control, META.json $$meta, CHANGELOG $$changes, debian/changelog $$debian" >&2; exit 1; fi

# PGXN wants a zip in which all is below name-version/.
DISTVERSION = $(shell sed -n 's/^ *"version": "\([0-9.]*\)",/\1/p' META.json | head -n 1)
.PHONY: dist
dist: check-version
	perl test/check_meta
	git archive --format=zip --prefix=lpusers-$(DISTVERSION)/ -o lpusers-$(DISTVERSION).zip HEAD
	git archive --format=tar.gz --prefix=lpusers-$(DISTVERSION)/ -o lpusers-$(DISTVERSION).tar.gz HEAD
