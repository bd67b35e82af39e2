/* Any file, as a configuration and as a keys file: it loads, or one message says where and why. */
#include "gate/config.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

/* A file in memory; its name goes to `path`. */
static int memory_file(const void *bytes, size_t len, char path[64])
{
	int fd = memfd_create("config", MFD_CLOEXEC);

	BUG_ON(fd < 0 || write(fd, bytes, len) != (ssize_t)len);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	return fd;
}

static void check_load(const char *path)
{
	struct config_watch watch = {0};
	char message[CONFIG_MESSAGE] = "";
	struct config *c = config_load(path, &watch, message);

	BUG_ON(!c != (message[0] != '\0'));
	BUG_ON(!c && strncmp(message, "/", 1) != 0); /* begins with the file that is at fault */
	BUG_ON(c && (c->providers.count == 0 || c->models.count == 0));
	BUG_ON(!watch.files || !watch.files[0]);
	config_free(c);
	arena_release(&watch.arena);
}

static void check_as_keys(const char *keys)
{
	char text[512], path[64];
	int n = snprintf(text, sizeof(text),
		"{\"providers\":{\"p\":{\"base_url\":\"http://h/v1\"}},\"models\":{\"m\":{\"provider\":\"p\"}},"
		"\"keys_file\":\"%s\"}",
		keys);
	int fd = memory_file(text, (size_t)n, path);

	check_load(path);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
	char path[64];
	int fd = memory_file(bytes, len, path);

	check_load(path);
	check_as_keys(path);
	close(fd);
	return 0;
}
