/* Runs a fuzz target over the files of a corpus without a fuzzer, so that gcc's sanitizers can watch: replay
 * FILE|FOLDER… */
#include "base/err.h"

#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

static int replayed;

/* Memory of exactly the file's size, so that AddressSanitizer sees a byte too far. */
static void replay(const char *path, size_t len)
{
	FILE *f = fopen(path, "rb");
	uint8_t *bytes = malloc(len ? len : 1);

	if (!f || !bytes || fread(bytes, 1, len, f) != len)
		die("%s: cannot be read", path);
	fclose(f);
	LLVMFuzzerTestOneInput(bytes, len);
	free(bytes);
	replayed++;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)where;
	if (type == FTW_F)
		replay(path, (size_t)st->st_size);
	else if (type != FTW_D)
		die("%s: cannot be read", path);
	return 0;
}

int main(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (nftw(argv[i], visit, 16, FTW_PHYS))
			die("%s: cannot be read", argv[i]);
	if (!replayed)
		die("nothing to replay");
	printf("%d inputs replayed\n", replayed);
	return 0;
}
