/* For what comes from outside and is not JSON: headers, paths, methods. */
#include "base/utf8.h"

#include <string.h>

size_t utf8_decode(const unsigned char *s, size_t left, unsigned *c)
{
	size_t i, n = s[0] < 0x80 ? 1 : s[0] < 0xc2 ? 0 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : s[0] < 0xf5 ? 4 : 0;

	*c = 0xfffd;
	if (n == 0 || n > left)
		return 1;
	for (i = 1; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 1;
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
		(s[0] == 0xf4 && s[1] > 0x8f))
		return 1;
	*c = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
	for (i = 1; i < n; i++)
		*c = *c << 6 | (s[i] & 0x3f);
	return n;
}

void utf8_clean(char *s)
{
	size_t left = strlen(s), step;
	unsigned c;

	for (; left; s += step, left -= step) {
		step = utf8_decode((unsigned char *)s, left, &c);
		if (step == 1 && c == 0xfffd)
			*s = '?';
	}
}

size_t utf8_cut(const char *s, size_t max)
{
	while (max && ((unsigned char)s[max] & 0xc0) == 0x80)
		max--;
	return max;
}
