// SPDX-License-Identifier: GPL-2.0-only
/* A command's words: keys, values, sizes, choices. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "drive.h"

static const struct name_value errnos[] = {
	{ "EPERM", -EPERM },
	{ "EINTR", -EINTR },
	{ "EIO", -EIO },
	{ "EAGAIN", -EAGAIN },
	{ "ENOMEM", -ENOMEM },
	{ "EFAULT", -EFAULT },
	{ "EBUSY", -EBUSY },
	{ "EINVAL", -EINVAL },
	{ "EDEADLK", -EDEADLK },
	{ NULL, 0 }
};

const char *find_argument(const char *key)
{
	size_t i;

	for (i = 0; i < command->argument_count; i++) {
		if (!strcmp(command->arguments[i].key, key))
			return command->arguments[i].value;
	}
	return NULL;
}

bool parse_size(const char *text, uint64_t *value)
{
	unsigned int shift = 0;
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno)
		return false;
	if (*end == 'K')
		shift = 10;
	else if (*end == 'M')
		shift = 20;
	else if (*end == 'G')
		shift = 30;
	if (shift)
		end++;
	if (*end || *value > UINT64_MAX >> shift)
		return false;
	*value <<= shift;
	return true;
}

uint64_t number_argument(const char *key, uint64_t absent, uint64_t min, uint64_t max)
{
	const char *text = find_argument(key);
	uint64_t value;

	if (!text)
		return absent;
	if (!parse_size(text, &value))
		fail(EINVAL, "%s=%s is not a number with K, M or G", key, text);
	if (value < min || value > max)
		fail(ERANGE, "%s=%s is not within %llu..%llu", key, text,
		     (unsigned long long)min, (unsigned long long)max);
	return value;
}

long choice_argument(const char *key, const struct name_value *choices, const char *absent)
{
	const char *text = find_argument(key);
	const struct name_value *choice;
	char known[400] = "";

	if (!text)
		text = absent;
	for (choice = choices; choice->name; choice++) {
		if (!strcmp(choice->name, text))
			return choice->value;
		strncat(known, " ", sizeof(known) - strlen(known) - 1);
		strncat(known, choice->name, sizeof(known) - strlen(known) - 1);
	}
	fail(EINVAL, "%s=%s is not one of%s", key, text, known);
}

/* A name from the table, which means -errno, or a number that the kernel gets as it is. */
int errno_argument(const char *key)
{
	const char *text = find_argument(key);
	long value;
	char *end;

	if (!text)
		return 0;
	value = strtol(text, &end, 10);
	if (*end || end == text)
		return (int)choice_argument(key, errnos, "");
	if (value < -4095 || value > 4095)
		fail(ERANGE, "%s=%s is not within -4095..4095", key, text);
	return (int)value;
}

size_t size_argument(const char *key)
{
	uint64_t size = number_argument(key, 0, PAGE_BYTES, NH_BUFFER_MAX);

	if (size % PAGE_BYTES)
		fail(EINVAL, "%s must be a multiple of %lu", key, PAGE_BYTES);
	return size;
}

/* Cut the next word off `*rest`, in place; NULL at the end of the line. */
char *next_word(char **rest)
{
	char *from = *rest;
	char *word, *to;
	bool quoted = false;

	while (*from == ' ' || *from == '\t')
		from++;
	if (!*from || *from == '#')
		return NULL;
	word = from;
	to = from;
	for (; *from && (quoted || (*from != ' ' && *from != '\t')); from++) {
		if (*from == '"')
			quoted = !quoted;
		else
			*to++ = *from;
	}
	if (quoted)
		fail(EINVAL, "a quote is not closed");
	if (*from)
		from++;
	*to = '\0';
	*rest = from;
	return word;
}

/* Find `word` of `length` among the verb's keys; returns the permanent copy, or NULL. */
static const char *find_key(char keys[][NAME_BYTES], size_t count, const char *word, size_t length)
{
	size_t i;

	for (i = 0; i < count; i++) {
		if (strlen(keys[i]) == length && !strncmp(keys[i], word, length))
			return keys[i];
	}
	return NULL;
}

void parse_arguments(char *rest)
{
	struct command *now = command;
	const struct verb *verb = now->verb;
	char (*keys)[NAME_BYTES] = now->keys;
	bool required[ARGUMENTS_MAX] = {};
	const char *text = verb->keys;
	size_t count = 0, next = 0, i;
	char *word;

	while (*text) {
		size_t length = strcspn(text, " !");

		memcpy(keys[count], text, length);
		keys[count][length] = '\0';
		text += length;
		required[count++] = *text == '!';
		text += strspn(text, " !");
	}
	while ((word = next_word(&rest))) {
		char *equals = strchr(word, '=');
		struct argument *argument = &now->arguments[now->argument_count];

		if (equals) {
			argument->key = find_key(keys, count, word, (size_t)(equals - word));
			argument->value = equals + 1;
			if (!argument->key)
				fail(EINVAL, "%s has no key \"%.*s\"; its keys: %s", verb->name,
				     (int)(equals - word), word, *verb->keys ? verb->keys : "none");
		} else {
			while (next < count && find_argument(keys[next]))
				next++;
			if (next == count)
				fail(EINVAL, "%s: \"%s\" is one value too many; its keys: %s",
				     verb->name, word, *verb->keys ? verb->keys : "none");
			argument->key = keys[next];
			argument->value = word;
		}
		if (find_argument(argument->key))
			fail(EINVAL, "%s: %s is given twice", verb->name, argument->key);
		now->argument_count++;
	}
	for (i = 0; i < count; i++) {
		if (required[i] && !find_argument(keys[i]))
			fail(EINVAL, "%s needs %s=", verb->name, keys[i]);
	}
}
