/*
 * The load generator: one process on epoll, because two cores must carry it beside all that it measures.
 *
 * load rps      a fixed number of connections, each sending its next request when it has the answer to the last
 * load latency  one request at a time, in turn to --url and to --against, so that both see the same noise
 * load streams  many SSE streams at once, opened at a bounded rate, each to its end; the delay of each event is what
 *               lies between the microsecond that demo-llm --stamp wrote into it and its arrival here. With --against
 *               every other stream goes there
 * load twins    the same question so many times: one stream, and 50 ms behind it the others at the rate, half of them
 *               streams; how much later than the first one each of these sees its first token
 *
 * "@@@" in the body becomes a number that no other request of this machine had, so that each request is a miss; for
 * twins it becomes true or false.
 * Prints one JSON object.
 */
#include "client.h"

#include "base/clock.h"
#include "base/err.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
	REQUEST_MAX = 16384,
	CONNECTIONS_MAX = 8192,
	LINE_MAX_BYTES = 65536,
	EVENTS = 256,
	GRACE_US = 10000000,
	PAUSE_US = 2000,
	LEAD_US = 50000
};

struct samples {
	int64_t *us;
	size_t count, room;
};

/* One connection, and in streams mode one stream. */
struct lane {
	struct client client; /* first: the client of a callback is its lane */
	struct buf line;      /* an SSE line that is not whole yet */
	const char *mark;     /* what stands for "@@@"; NULL: a number of its own */
	int64_t token_us;     /* when its first one came; 0 = not yet */
	bool busy, began, done_seen;
};

static struct options {
	struct target url, against;
	long connections, requests, rate, seconds, measure;
	const char *body;
	struct buf headers;
} opt = {.connections = 16, .requests = -1, .rate = 200, .seconds = 60, .headers = BUF_INIT(8192)};

static struct samples samples, samples_first, against, against_first;
static long by_status[1000];
static long errors, events, busy, begun;
static int epoll;
static bool measuring;

static void samples_add(struct samples *s, int64_t us)
{
	if (s->count == s->room) {
		s->room = s->room ? s->room * 2 : 4096;
		s->us = realloc(s->us, s->room * sizeof(*s->us));
		if (!s->us)
			die("load: out of memory");
	}
	s->us[s->count++] = us;
}

static int compare(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void samples_print(const char *name, struct samples *s)
{
	size_t last = s->count ? s->count - 1 : 0;

	if (s->count) {
		qsort(s->us, s->count, sizeof(*s->us), compare);
		printf(",\"%s\":{\"count\":%zu,\"p50\":%lld,\"p99\":%lld,\"max\":%lld}", name, s->count,
			(long long)s->us[last / 2], (long long)s->us[last * 99 / 100], (long long)s->us[last]);
	}
}

static void report_begin(const char *mode, long requests, int64_t took_us)
{
	const char *comma = "";
	int i;

	printf("{\"mode\":\"%s\",\"requests\":%ld,\"seconds\":%.6f,\"rps\":%.1f,\"errors\":%ld,\"statuses\":{", mode,
		requests, (double)took_us / 1e6, took_us ? (double)requests * 1e6 / (double)took_us : 0.0, errors);
	for (i = 0; i < 1000; i++) {
		if (by_status[i]) {
			printf("%s\"%d\":%ld", comma, i, by_status[i]);
			comma = ",";
		}
	}
	printf("}");
}

/* The whole request; the number behind the marker keeps its width, and so the request its length. */
static size_t request_make(char out[REQUEST_MAX], const struct target *to, const char *instead)
{
	static int64_t counter;
	const char *mark = strstr(opt.body, "@@@"), *rest = mark ? mark + 3 : "";
	int before = mark ? (int)(mark - opt.body) : (int)strlen(opt.body), n;
	char number[32] = "";

	if (!counter)
		counter = clock_mono_us();
	if (mark && instead)
		snprintf(number, sizeof(number), "%s", instead);
	else if (mark)
		snprintf(number, sizeof(number), "%018lld", (long long)counter++);
	n = snprintf(out, REQUEST_MAX, "POST %s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %zu\r\n\r\n%.*s%s%s",
		to->path, to->host, opt.headers.data ? opt.headers.data : "",
		(size_t)before + strlen(number) + strlen(rest), before, opt.body, number, rest);
	if (n >= REQUEST_MAX)
		die("load: the request is too long");
	return (size_t)n;
}

static void lane_end(struct lane *l)
{
	l->busy = false;
	busy--;
}

static void lane_fail(struct lane *l)
{
	client_close(&l->client);
	lane_end(l);
	if (++errors > 100 + opt.connections)
		die("load: %ld errors, given up", errors);
}

static void lane_send(struct lane *l)
{
	char request[REQUEST_MAX];
	size_t len = request_make(request, l->client.to, l->mark);

	l->busy = true;
	busy++;
	if (client_send(&l->client, epoll, request, len) < 0)
		lane_fail(l);
}

/* Waits for what is readable; the number of lanes that are ready. */
static int lanes_wait(struct epoll_event ready[EVENTS], int timeout_ms)
{
	int n = epoll_wait(epoll, ready, EVENTS, timeout_ms);

	if (n < 0 && errno != EINTR)
		die("load: epoll: %s", strerror(errno));
	return n < 0 ? 0 : n;
}

/* Reads what has come. True when the answer is whole, and counted. */
static bool lane_read(struct lane *l)
{
	enum client_event event = client_read(&l->client);

	if (event == CLIENT_MORE)
		return false;
	if (!l->busy) { /* the server ended an idle connection, as it may */
		client_close(&l->client);
		return false;
	}
	if (event == CLIENT_FAILED) {
		lane_fail(l);
		return false;
	}
	by_status[l->client.status]++;
	lane_end(l);
	return true;
}

static void rps(void)
{
	struct lane *lanes = calloc((size_t)opt.connections, sizeof(*lanes));
	int64_t start = clock_mono_us(), end = start + opt.seconds * 1000000, now = start;
	long sent = 0, i;
	struct epoll_event ready[EVENTS];
	struct lane *l;
	int n;

	if (!lanes)
		die("load: out of memory");
	for (i = 0; i < opt.connections && sent != opt.requests; i++, sent++)
		client_init(&lanes[i].client, &opt.url), lane_send(&lanes[i]);
	do {
		n = lanes_wait(ready, 100);
		for (i = 0; i < n; i++) {
			l = ready[i].data.ptr;
			if (lane_read(l))
				samples_add(&samples, l->client.last_us - l->client.sent_us);
			if (!l->busy && clock_mono_us() < end && sent != opt.requests)
				sent++, lane_send(l);
		}
		now = clock_mono_us();
	} while (busy && now < end + GRACE_US);
	errors += busy;
	report_begin("rps", (long)samples.count, now - start);
	samples_print("us", &samples);
	printf("}\n");
	free(lanes);
}

/*
 * One request and its whole answer. The pause is random, or else a provider that works by the tick of a millisecond
 * would fall into step with us, and hide what lies in front of it.
 */
static void round_trip(struct lane *l, struct samples *whole, struct samples *first)
{
	struct epoll_event ready[EVENTS];
	int64_t end;
	int i, n;

	usleep((useconds_t)(random() % PAUSE_US));
	end = clock_mono_us() + GRACE_US;
	lane_send(l);
	while (l->busy && clock_mono_us() < end) {
		n = lanes_wait(ready, 100);
		for (i = 0; i < n; i++) {
			struct lane *other = ready[i].data.ptr;

			if (lane_read(other) && other == l) {
				samples_add(whole, l->client.last_us - l->client.sent_us);
				samples_add(first, l->client.first_us - l->client.sent_us);
			}
		}
	}
	if (l->busy)
		lane_fail(l);
}

static void latency(void)
{
	int64_t start = clock_mono_us(), end = start + opt.seconds * 1000000;
	struct lane through = {0}, direct = {0};

	client_init(&through.client, &opt.url);
	client_init(&direct.client, &opt.against);
	while (opt.requests-- && clock_mono_us() < end) {
		round_trip(&through, &samples, &samples_first);
		round_trip(&direct, &against, &against_first);
	}
	report_begin("latency", (long)(samples.count + against.count), clock_mono_us() - start);
	samples_print("url_us", &samples);
	samples_print("url_first_us", &samples_first);
	samples_print("against_us", &against);
	samples_print("against_first_us", &against_first);
	printf("}\n");
}

/* A stream has begun with its first event, or never will. */
static void lane_begin(struct lane *l)
{
	if (!l->began)
		begun++;
	l->began = true;
}

/* One SSE line: the end of the stream, or an event whose content begins with the time at which it was made. */
static void stream_line(struct lane *l, const char *line)
{
	const char *content;
	long long made;

	if (strncmp(line, "data:", 5) != 0)
		return;
	if (strstr(line, "[DONE]"))
		l->done_seen = true;
	content = strstr(line, "\"content\":\"");
	made = content ? strtoll(content + strlen("\"content\":\""), NULL, 10) : 0;
	if (made > 0) {
		l->token_us = l->token_us ? l->token_us : l->client.last_us;
		lane_begin(l);
		events++;
		if (measuring)
			samples_add(&samples, l->client.last_us - made);
	}
}

static void stream_body(struct client *c, const char *bytes, size_t len)
{
	struct lane *l = (struct lane *)c;
	char *from, *end;

	buf_add(&l->line, bytes, len);
	if (l->line.overflow)
		die("load: an SSE line of more than %d bytes", LINE_MAX_BYTES);
	for (from = l->line.data; (end = strchr(from, '\n')); from = end + 1) {
		*end = '\0';
		stream_line(l, from);
	}
	buf_drop(&l->line, (size_t)(from - l->line.data));
}

static struct lane *streams_new(void)
{
	struct lane *lanes = calloc((size_t)opt.connections, sizeof(*lanes));
	long i;

	if (!lanes)
		die("load: out of memory");
	for (i = 0; i < opt.connections; i++) {
		client_init(&lanes[i].client, i % 2 && opt.against.path[0] ? &opt.against : &opt.url);
		lanes[i].line = BUF_INIT(LINE_MAX_BYTES);
		lanes[i].client.on_body = stream_body;
	}
	return lanes;
}

/* Opens the streams that are due by now. */
static long streams_open(struct lane *lanes, long opened, int64_t since_us)
{
	long due = (long)(since_us * opt.rate / 1000000) + 1;

	for (; opened < opt.connections && opened < due; opened++) {
		lane_send(&lanes[opened]);
		if (!lanes[opened].busy)
			lane_begin(&lanes[opened]);
	}
	return opened;
}

/* Tells the caller, who looks at processes meanwhile, where the measured part begins and ends. */
static void streams_tell(const char *word)
{
	fprintf(stderr, "%s\n", word);
	fflush(stderr);
}

static void streams(void)
{
	struct lane *lanes = streams_new();
	int64_t start = clock_mono_us(), end = start + opt.seconds * 1000000, now = start, measure_end = 0;
	long opened = 0, complete = 0, peak = 0;
	struct epoll_event ready[EVENTS];
	int i, n;

	do {
		opened = streams_open(lanes, opened, now - start);
		n = lanes_wait(ready, opened < opt.connections ? 1 : 100);
		for (i = 0; i < n; i++) {
			struct lane *l = ready[i].data.ptr;

			if (lane_read(l))
				complete += l->client.status == 200 && l->done_seen;
			if (!l->busy)
				lane_begin(l);
		}
		now = clock_mono_us();
		peak = busy > peak ? busy : peak;
		if (opt.measure && begun == opt.connections && !measure_end) {
			measure_end = now + opt.measure * 1000000;
			measuring = true;
			streams_tell("began");
		} else if (measuring && (now >= measure_end || !busy)) {
			measuring = false;
			streams_tell("measured");
		}
	} while ((busy || opened < opt.connections) && now < end);
	report_begin("streams", opened, now - start);
	printf(",\"complete\":%ld,\"lost\":%ld,\"peak\":%ld,\"events\":%ld", complete, opt.connections - complete, peak,
		events);
	samples_print("delay_us", &samples);
	printf("}\n");
	free(lanes);
}

/* What the followers' first tokens came later than the first of all. */
static void twins_compare(const struct lane *lanes)
{
	int64_t first = INT64_MAX;
	long i;

	for (i = 0; i < opt.connections; i += 2)
		if (lanes[i].token_us && lanes[i].token_us < first)
			first = lanes[i].token_us;
	for (i = 2; i < opt.connections; i += 2)
		if (lanes[i].token_us)
			samples_add(&samples_first, lanes[i].token_us - first);
}

static void twins(void)
{
	struct lane *lanes = streams_new();
	int64_t start = clock_mono_us(), end = start + opt.seconds * 1000000, now = start;
	long opened = 0, complete = 0, i;
	struct epoll_event ready[EVENTS];
	int n;

	for (i = 0; i < opt.connections; i++)
		lanes[i].mark = i % 2 ? "false" : "true";
	measuring = true;
	do {
		opened = streams_open(lanes, opened, now - start < LEAD_US ? 0 : now - start - LEAD_US);
		n = lanes_wait(ready, opened < opt.connections ? 1 : 100);
		for (i = 0; i < n; i++) {
			struct lane *l = ready[i].data.ptr;

			if (lane_read(l))
				complete += l->client.status == 200 && (l->done_seen || *l->mark == 'f');
		}
		now = clock_mono_us();
	} while ((busy || opened < opt.connections) && now < end);
	twins_compare(lanes);
	report_begin("twins", opened, now - start);
	printf(",\"lost\":%ld,\"events\":%ld", opt.connections - complete, events);
	samples_print("behind_us", &samples_first);
	samples_print("delay_us", &samples);
	printf("}\n");
	free(lanes);
}

static long number(const char *text, long max)
{
	char *end;
	long value = strtol(text, &end, 10);

	if (end == text || *end || value < 1 || value > max)
		die("load: %s: not a number from 1 to %ld", text, max);
	return value;
}

static void options_parse(int argc, char **argv)
{
	static const struct option known[] = {{"url", 1, NULL, 'u'}, {"against", 1, NULL, 'a'}, {"body", 1, NULL, 'b'},
		{"header", 1, NULL, 'h'}, {"connections", 1, NULL, 'c'}, {"requests", 1, NULL, 'n'},
		{"seconds", 1, NULL, 's'}, {"rate", 1, NULL, 'r'}, {"measure", 1, NULL, 'm'}, {NULL, 0, NULL, 0}};
	int o;

	while ((o = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (o) {
		case 'u': target_parse(&opt.url, optarg); break;
		case 'a': target_parse(&opt.against, optarg); break;
		case 'b': opt.body = optarg; break;
		case 'h': buf_printf(&opt.headers, "%s\r\n", optarg); break;
		case 'c': opt.connections = number(optarg, CONNECTIONS_MAX); break;
		case 'n': opt.requests = number(optarg, 100000000); break;
		case 's': opt.seconds = number(optarg, 3600); break;
		case 'r': opt.rate = number(optarg, 100000); break;
		case 'm': opt.measure = number(optarg, 3600); break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} modes[] = {{"rps", rps}, {"latency", latency}, {"streams", streams}, {"twins", twins}};
	size_t i;

	options_parse(argc, argv);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (!opt.body || !opt.url.path[0] || epoll < 0)
		die("load: --url and --body are needed");
	for (i = 0; optind < argc && i < sizeof(modes) / sizeof(*modes); i++) {
		if (!strcmp(argv[optind], modes[i].name)) {
			modes[i].run();
			return 0;
		}
	}
	die("usage: load rps|latency|streams|twins --url URL --body TEXT [--header 'name: value']… [--seconds N] [--requests N]\n"
	    "  rps: [--connections N]  latency: --against URL  twins: [--connections N] [--rate N]\n"
	    "  streams: [--connections N] [--rate N] [--measure SECONDS] [--against URL]");
}
