/*
 * fcgi — the side that faces the web server: one connection, one request at a time (libfcgi lives here and nowhere
 * else).
 */
#ifndef PAVISE_EDGE_FCGI_H
#define PAVISE_EDGE_FCGI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Once per process, before the first accept. -1: fd 0 is not a listening socket. */
int fcgi_init(void);

/* Waits for a request. False when the process was told to stop accepting, or the socket is gone. */
bool fcgi_accept(void);

/*
 * From a signal handler: makes the accept that is waiting, and every later one, fail at once, while a request that is
 * being answered is left alone. The handler must be installed with SA_RESTART. Async-signal-safe.
 */
void fcgi_stop_accepting(void);

/* A CGI variable of the current request, or NULL, as is every one behind fcgi_finish(). Valid until then. */
const char *fcgi_param(const char *name);
/* "NAME=value" strings, NULL-terminated. */
char **fcgi_params(void);

/* Up to len bytes of the body; 0 at its end, -1 if the connection broke, -2 if nothing came until deadline_us (mono).
 */
ssize_t fcgi_read(char *to, size_t len, int64_t deadline_us);

/* Collects bytes of the answer, and sends them when there are many. -1 when the client (or the web server) has gone: it
 * is only noticed here. */
int fcgi_write(const char *bytes, size_t len);
/* Sends what was collected, and waits until the web server has taken it. */
int fcgi_flush(void);
/* Sends as much as the web server takes at once; -1 when it has gone. */
int fcgi_push(void);
/* As fcgi_write(), but never waits: what is not taken is kept, for the next fcgi_push(). */
int fcgi_offer(const char *bytes, size_t len);
/* Bytes that the web server has not taken yet. */
size_t fcgi_waiting(void);

/* The connection to the web server, to be watched for its end. */
int fcgi_fd(void);
/* Whether it stays open behind the answer: then the next request on it waits for this process. */
bool fcgi_kept(void);

/*
 * Ends the answer, with one line for the web server's log (or NULL) as one FCGI_STDERR record, so that the log gets it
 * whole. -1: nobody took it. At most 65,000 bytes.
 */
int fcgi_end(const char *line, size_t len);

/* Lets go of the request. The connection is closed if the web server did not ask to keep it. */
void fcgi_finish(void);

#endif
