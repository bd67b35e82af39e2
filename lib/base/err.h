/*
 * err — what can go wrong because of a client, a provider or the network, in one table.
 *
 * A failure is filled in where it is found, travels as a value, and is answered and logged once. Our own bugs are
 * BUG_ON, and what leaves nothing to do at start is die(); see README.md.
 */
#ifndef PAVISE_BASE_ERR_H
#define PAVISE_BASE_ERR_H

#include <stddef.h>

/* What the SDKs are told in x-should-retry; UNSAID leaves it to them (they retry 408, 409, 429 and 5xx). */
enum err_retry { RETRY_UNSAID, RETRY_NO, RETRY_YES };

/*
 * One line is one kind of failure: name, `code` in the body, HTTP status, `type` in the body, retry, and error.type in
 * the log: who was at fault (caller_, policy_, provider_, store_, internal_) and how. Codes and types are OpenAI's
 * where it has one (https://platform.openai.com/docs/guides/error-codes). What is UNREADABLE_JSON is JSON by its
 * grammar, but cannot be kept as it is: a lone surrogate, a NUL in a name, too many levels.
 */
#define ERR_TABLE(X) \
	X(INVALID_JSON, "invalid_json", 400, "invalid_request_error", RETRY_NO, "caller_invalid_json") \
	X(UNREADABLE_JSON, "invalid_json", 400, "invalid_request_error", RETRY_NO, "caller_invalid_json") \
	X(NUMBER_RANGE, "number_out_of_range", 400, "invalid_request_error", RETRY_NO, "caller_invalid_json") \
	X(DUPLICATE_NAME, "duplicate_name", 400, "invalid_request_error", RETRY_NO, "caller_invalid_json") \
	X(MISSING_PARAMETER, "missing_required_parameter", 400, "invalid_request_error", RETRY_NO, \
		"caller_invalid_request") \
	X(INVALID_TYPE, "invalid_type", 400, "invalid_request_error", RETRY_NO, "caller_invalid_request") \
	X(INVALID_VALUE, "invalid_value", 400, "invalid_request_error", RETRY_NO, "caller_invalid_request") \
	X(INVALID_HEADER, "invalid_header", 400, "invalid_request_error", RETRY_NO, "caller_invalid_header") \
	X(BODY_INCOMPLETE, "body_incomplete", 400, "invalid_request_error", RETRY_NO, "caller_body_incomplete") \
	X(INVALID_API_KEY, "invalid_api_key", 401, "invalid_request_error", RETRY_NO, "caller_invalid_api_key") \
	X(API_KEY_EXPIRED, "api_key_expired", 401, "invalid_request_error", RETRY_NO, "caller_api_key_expired") \
	X(API_KEY_DISABLED, "api_key_disabled", 401, "invalid_request_error", RETRY_NO, "caller_api_key_disabled") \
	X(MODEL_NOT_ALLOWED, "model_not_allowed", 403, "invalid_request_error", RETRY_NO, "policy_model_not_allowed") \
	X(MODEL_NOT_FOUND, "model_not_found", 404, "invalid_request_error", RETRY_NO, "caller_model_not_found") \
	X(ADMIN_ONLY, "admin_key_required", 403, "invalid_request_error", RETRY_NO, "policy_admin_only") \
	X(SCOPE_NOT_FOUND, "scope_not_found", 404, "invalid_request_error", RETRY_NO, "caller_scope_not_found") \
	X(UNKNOWN_URL, "unknown_url", 404, "invalid_request_error", RETRY_NO, "caller_unknown_url") \
	X(METHOD_NOT_ALLOWED, "method_not_allowed", 405, "invalid_request_error", RETRY_NO, \
		"caller_method_not_allowed") \
	X(BODY_TIMEOUT, "body_timeout", 408, "invalid_request_error", RETRY_UNSAID, "caller_body_timeout") \
	X(BODY_TOO_LARGE, "body_too_large", 413, "invalid_request_error", RETRY_NO, "caller_body_too_large") \
	X(MEDIA_TYPE, "unsupported_media_type", 415, "invalid_request_error", RETRY_NO, \
		"caller_unsupported_media_type") \
	X(RATE_LIMIT, "rate_limit_exceeded", 429, "rate_limit_error", RETRY_UNSAID, "policy_rate_limit") \
	X(QUOTA, "insufficient_quota", 429, "insufficient_quota", RETRY_NO, "policy_budget_spent") \
	X(NOT_CACHED, "not_cached", 504, "invalid_request_error", RETRY_NO, "caller_only_if_cached") \
	X(OVERLOADED, "server_is_overloaded", 503, "server_error", RETRY_YES, "policy_overloaded") \
	X(DRAINING, "server_is_overloaded", 503, "server_error", RETRY_YES, "policy_draining") \
	X(LIMIT_STORE_DOWN, "limit_store_unavailable", 503, "server_error", RETRY_YES, "store_unavailable") \
	X(PURGE_INCOMPLETE, "purge_incomplete", 503, "server_error", RETRY_YES, "store_purge_incomplete") \
	X(LEDGER_UNREADABLE, "ledger_unavailable", 503, "server_error", RETRY_UNSAID, "store_ledger_unreadable") \
	X(PROVIDER_OFF, "provider_not_configured", 503, "server_error", RETRY_NO, "policy_provider_off") \
	X(PROVIDER_UNREACHABLE, "provider_unreachable", 502, "server_error", RETRY_UNSAID, "provider_unreachable") \
	X(PROVIDER_TLS, "provider_tls_error", 502, "server_error", RETRY_UNSAID, "provider_tls") \
	X(PROVIDER_BROKEN, "provider_connection_broken", 502, "server_error", RETRY_UNSAID, \
		"provider_connection_broken") \
	X(PROVIDER_INVALID, "provider_invalid_response", 502, "server_error", RETRY_UNSAID, \
		"provider_invalid_response") \
	X(PROVIDER_TOO_LARGE, "provider_response_too_large", 502, "server_error", RETRY_NO, \
		"provider_response_too_large") \
	X(PROVIDER_CONNECT_TIMEOUT, "provider_connect_timeout", 504, "server_error", RETRY_UNSAID, \
		"provider_connect_timeout") \
	X(PROVIDER_TIMEOUT, "provider_timeout", 504, "server_error", RETRY_UNSAID, "provider_timeout") \
	X(PROVIDER_STALLED, "provider_stalled", 504, "server_error", RETRY_UNSAID, "provider_stalled") \
	X(PROVIDER_ERROR, "provider_error", 502, "server_error", RETRY_UNSAID, "provider_error") \
	X(CLIENT_GONE, "client_closed_request", 499, "server_error", RETRY_UNSAID, "caller_gone") \
	X(INTERNAL, "internal_error", 500, "server_error", RETRY_UNSAID, "internal_error")

#define ERR_ENUM(name, code, status, type, retry, log_type) ERR_##name,
enum err_code { ERR_NONE, ERR_TABLE(ERR_ENUM) ERR_COUNT };
#undef ERR_ENUM

/* One line of the table. */
struct err_kind {
	const char *code;
	int status;
	const char *type;
	enum err_retry retry;
	const char *log_type;
};

const struct err_kind *err_kind(enum err_code code);

struct err {
	enum err_code code;
	char param[128];   /* the field at fault as the client spells it ("messages[0].role"); "" = none */
	char message[512]; /* a sentence for the client: what, where, what instead */
};

/* Fills *e and returns -1, so that a finder can `return err_set(…)`. A NULL param means none. */
int err_set(struct err *e, enum err_code code, const char *param, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));

/* Says why on fd 2 and exits 1: for a start that cannot succeed. */
void die(const char *fmt, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Cannot happen; if it does, it is a bug of ours: abort, and the supervisor starts a fresh worker. */
#define BUG_ON(cond) \
	do { \
		if (cond) \
			bug(__FILE__, __LINE__, #cond); \
	} while (0)
void bug(const char *file, int line, const char *what) __attribute__((noreturn));

#endif
