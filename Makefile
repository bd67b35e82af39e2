# pavise: `make help` lists what there is. build/ holds everything that is built, run/ everything that runs.

PORT      ?= 8080
DEMO_PORT ?= 8081
CONFIG    ?= conf/pavise.json
RUN_DIR   ?= run
WEB       ?= lighttpd
B         ?= build
export PORT DEMO_PORT CONFIG RUN_DIR WEB

VERSION  = 0.1.0
CC       = gcc
CSTD     = -std=gnu11 -D_GNU_SOURCE -Ilib -DPAVISE_VERSION='"$(VERSION)"'
WARN     = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wwrite-strings -Wvla \
           -Wformat=2 -Wno-format-nonliteral -Wimplicit-fallthrough -Wundef
HARDEN   = -O2 -g -fstack-protector-strong -fstack-clash-protection -D_FORTIFY_SOURCE=2 -fPIE -fno-strict-aliasing
SANITIZE = -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
MODE     = $(HARDEN)
LINK     = -pie -Wl,-z,relro,-z,now -Wl,--as-needed
CFLAGS  ?=
ALL_CFLAGS = $(CSTD) $(WARN) $(MODE) $(CFLAGS) -MMD -MP
LIBS     = -lfcgi -ljson-c -lmemcached -lcurl -lpcre2-8 -lsqlite3 -lzstd -lssl -lcrypto -lm
EVENT    = -levent_openssl -levent -lssl -lcrypto

LIB_OBJ  = $(patsubst %.c,$(B)/%.o,$(wildcard lib/*/*.c))
DEMO_OBJ = $(patsubst %.c,$(B)/%.o,$(wildcard app/demo*.c))
UNITS    = $(patsubst tests/unit/%.c,$(B)/unit/%,$(wildcard tests/unit/*/*_test.c))
TARGETS ?= $(patsubst tests/fuzz/%_fuzz.c,%,$(wildcard tests/fuzz/*_fuzz.c))
FUZZ     = $(patsubst tests/fuzz/%_fuzz.c,$(B)/fuzz/%,$(wildcard tests/fuzz/*_fuzz.c))

all: $(B)/pavise $(B)/pavisectl $(B)/demo-llm

help:
	@echo "make run        everything up to a working chat on http://127.0.0.1:$(PORT); Ctrl-C ends it"
	@echo "make test       unit tests (plain and sanitized), fuzz corpora, system tests with the real servers"
	@echo "make bench      ratios: against the floor, against the provider itself; memory; a thousand streams"
	@echo "make fuzzing    libFuzzer, ten minutes a target (TARGETS=\"sse schema\" FUZZ_SECONDS=60 for less)"
	@echo "make lint       warnings as errors, include direction, format"
	@echo "make test-docker  builds the image, brings up compose, chats with it"
	@echo "make deps       the Debian packages that all of this needs"
	@echo "variables: PORT=$(PORT) CONFIG=$(CONFIG) RUN_DIR=$(RUN_DIR) DEMO_PORT=$(DEMO_PORT) WEB=$(WEB) (lighttpd or apache)"

deps:
	@app/deps test

run:
	@app/deps $(WEB)
	@$(MAKE) --no-print-directory -s all
	@exec app/run

$(B)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(B)/libpavise.a: $(LIB_OBJ)
	@rm -f $@
	ar rcs $@ $^

$(B)/pavise: $(B)/app/pavise.o $(B)/libpavise.a
	$(CC) $(MODE) $(LINK) -o $@ $^ $(LIBS)

$(B)/pavisectl: $(B)/app/pavisectl.o $(B)/libpavise.a
	$(CC) $(MODE) $(LINK) -o $@ $^ $(LIBS)

$(B)/demo-llm: $(DEMO_OBJ) $(B)/libpavise.a
	$(CC) $(MODE) $(LINK) -o $@ $^ $(EVENT) $(LIBS)

$(B)/unit/%: $(B)/tests/unit/%.o $(B)/libpavise.a
	@mkdir -p $(@D)
	$(CC) $(MODE) $(LINK) -o $@ $^ -lcmocka $(LIBS)

$(B)/fuzz/%: $(B)/tests/fuzz/%_fuzz.o $(B)/tests/fuzz/replay.o $(B)/libpavise.a
	@mkdir -p $(@D)
	$(CC) $(MODE) $(LINK) -o $@ $^ $(LIBS)

# libFuzzer, each target for FUZZ_SECONDS; what it finds is kept in $(B)/fuzzing/
FUZZ_SECONDS ?= 600
fuzzing: $(wildcard tests/fuzz/*_fuzz.c)
	@app/deps build fuzz
	@$(MAKE) --no-print-directory -s B=$(B)/fuzzing CC=clang LINK= \
		MODE="-O1 -g -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all" $(B)/fuzzing/libpavise.a
	@for t in $(TARGETS); do B=$(B) tests/fuzz/run $$t $(FUZZ_SECONDS) || exit 1; done

units: $(UNITS)
fuzz: $(FUZZ)

test: deps
	@B=$(B) tests/run

lint:
	@tests/lint

# the same build with AddressSanitizer and UndefinedBehaviorSanitizer, in a folder of its own
sanitized-%:
	@$(MAKE) --no-print-directory -s B=$(B)/sanitized MODE="$(SANITIZE)" LINK= $*

format:
	clang-format -i $$(git ls-files '*.c' '*.h')

clean:
	rm -rf $(B)

# ratios, not absolute figures: machines differ (tests/bench/run says what each one means)
$(B)/bench/floor: $(B)/tests/bench/floor.o $(B)/libpavise.a
	@mkdir -p $(@D)
	$(CC) $(MODE) $(LINK) -o $@ $^ -lfcgi

$(B)/bench/load: $(B)/tests/bench/load.o $(B)/tests/bench/client.o $(B)/libpavise.a
	@mkdir -p $(@D)
	$(CC) $(MODE) $(LINK) -o $@ $^

bench: deps
	@$(MAKE) --no-print-directory -s all $(B)/bench/floor $(B)/bench/load
	@B=$(B) tests/bench/run

# brings up the containers of docker/ and chats with them
test-docker:
	@tests/docker/run

.PHONY: all help deps run units fuzz fuzzing test bench lint format clean test-docker
.SECONDARY:
-include $(shell find $(B) -name '*.d' 2>/dev/null)
