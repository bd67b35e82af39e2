/* A pretend model needs something to say for as long as anybody wants to listen. */
#include "demo_speech.h"

#include "base/err.h"

#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const sentences[] = {
	" This answer comes from a pretend model on your own machine.",
	" Nothing was sent to anybody, and nothing was paid.",
	" A real provider would say something clever at this point.",
	" Every word arrives on its own, as it would from a real model.",
	" Ask the same question again and the gateway can answer by itself.",
	" The second answer is as good as the first, and much cheaper.",
	" A thousand people who ask this together cost one call.",
	" When you are ready, put a real provider in the configuration.",
	" Your programs will not notice, because only the base URL differs.",
	" Look at the log: one line explains this very request.",
	" It says who asked, what it cost and what was saved.",
	" A budget that is spent stays spent, whatever happens to the cache.",
	" Patience is a virtue, and so is a good cache.",
	" Please do not rely on any of this, however friendly it sounds.",
	" The shield stands in front while the crossbow is made ready.",
	" There is always a little more to say about such things.",
};

/* closings[n] has n words: the end of a text that has n to go and no room for a sentence. */
static const char *const closings[] = {
	"",
	" Enjoy!",
	" Good luck!",
	" That is all.",
	" I hope this helps.",
	" Do ask again any time.",
	" It was a pleasure to help.",
	" Thank you for trying out this demo.",
	" That is what I can say for now.",
	" Please tell me if you want to know more.",
	" And with that I wish you a very good day.",
	" If anything is not clear, just ask me once more, please.",
	" And so, as with all good things, this answer ends right here.",
};

static size_t word_len(const char *s)
{
	return strcspn(s, " \t\r\n");
}

static size_t space_len(const char *s)
{
	return strspn(s, " \t\r\n");
}

int64_t speech_words(const char *text, size_t len)
{
	int64_t words = 0;
	bool inside = false, space;
	size_t i;

	for (i = 0; i < len; i++) {
		space = text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n';
		words += inside && space;
		inside = !space;
	}
	return words + inside;
}

/* splitmix64: a handful of instructions, and every seed is a good one. */
static uint64_t draw(uint64_t *state)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* Never the sentence that was just said. */
static const char *next_sentence(struct speech *s)
{
	size_t pick = (s->last + 1 + draw(&s->random) % (COUNT(sentences) - 1)) % COUNT(sentences);

	if (speech_words(sentences[pick], strlen(sentences[pick])) <= s->left) {
		s->last = pick;
		return sentences[pick];
	}
	BUG_ON((size_t)s->left >= COUNT(closings));
	return closings[s->left];
}

void speech_prose(struct speech *s, const char *opening, uint64_t seed, int pieces)
{
	*s = (struct speech){.prose = true, .random = seed, .left = pieces};
	s->text = speech_words(opening, strlen(opening)) <= pieces ? opening : next_sentence(s) + 1;
}

void speech_script(struct speech *s, const char *script)
{
	*s = (struct speech){.text = script};
}

static bool is_word_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || (unsigned char)c >= 0x80;
}

/* A run of letters and digits, or of anything else; a character of several bytes is never cut. */
static size_t script_piece(const char *s)
{
	bool word = is_word_byte(*s);
	size_t len = 1;

	while (s[len] && is_word_byte(s[len]) == word)
		len++;
	return len;
}

bool speech_next(struct speech *s, struct piece *piece)
{
	if (speech_over(s))
		return false;
	if (s->prose && !*s->text)
		s->text = next_sentence(s);
	piece->text = s->text;
	if (s->prose) {
		piece->len = space_len(s->text);
		piece->len += word_len(s->text + piece->len);
		s->left--;
	} else {
		piece->len = script_piece(s->text);
	}
	s->text += piece->len;
	return true;
}

bool speech_over(const struct speech *s)
{
	return s->prose ? s->left <= 0 : !*s->text;
}
