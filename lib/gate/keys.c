/* Patterns are the shell's (fnmatch), which everybody can read. */
#include "gate/keys.h"

#include <fnmatch.h>

bool key_may_call(const struct key *key, const struct model *model)
{
	const char **pattern;

	for (pattern = key->models; *pattern; pattern++)
		if (fnmatch(*pattern, model->name, 0) == 0)
			return true;
	return false;
}
