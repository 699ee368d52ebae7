/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a value's text to what a key of its kind holds. Each kind is one function that either stores a
 * good value or says in a few words what is wrong; nothing is stored halfway, and no text is read past its end.
 */
#include "vm/config/keys.h"
#include "vm/config/topology.h"

static struct ini_text text_of(const char *word)
{
	struct ini_text text = { word, 0 };

	while (word[text.length])
		text.length++;
	return text;
}

static int digit_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : 99;
}

/* Takes digits off the front. NULL, or what's wrong. */
static const char *take_number(struct ini_text *text, uint64_t *number)
{
	const bool hex = text->length > 2 && text->bytes[0] == '0' && (text->bytes[1] | 0x20) == 'x';
	const unsigned base = hex ? 16 : 10;
	size_t at = hex ? 2 : 0, first = at;
	uint64_t sum = 0;

	for (; at < text->length && digit_of(text->bytes[at]) < (int)base; at++)
		if (__builtin_mul_overflow(sum, base, &sum) ||
		    __builtin_add_overflow(sum, (uint64_t)digit_of(text->bytes[at]), &sum))
			return "too large";
	if (at == first)
		return "not a number";
	*number = sum;
	text->bytes += at;
	text->length -= at;
	return NULL;
}

static const char *check_range(const struct config_key *key, uint64_t number)
{
	if (number < key->minimum)
		return "too small";
	if (number > key->maximum)
		return "too large";
	return number % key->unit ? "not a multiple of the step" : NULL;
}

static const char *set_number(const struct config_key *key, uint64_t *place, struct ini_text value)
{
	uint64_t number = CONFIG_AUTO;
	const char *wrong = NULL;

	if (!key->auto_allowed || !ini_equal(value, "auto")) {
		wrong = take_number(&value, &number);
		if (!wrong)
			wrong = value.length ? "not a number" : check_range(key, number);
	}
	if (!wrong)
		*place = number;
	return wrong;
}

/* One number, or two with a minus between; off the front. */
static const char *take_range(const struct config_key *key, struct ini_text *text, struct cpu_set *set)
{
	uint64_t first, last;
	const char *wrong = take_number(text, &first);

	last = first;
	if (!wrong && text->length && *text->bytes == '-') {
		text->bytes++;
		text->length--;
		wrong = take_number(text, &last);
	}
	if (!wrong && last < first)
		wrong = "a range that ends before it begins";
	if (!wrong && last > key->maximum)
		wrong = "too large";
	if (!wrong)
		cpu_set_add(set, (unsigned)first, (unsigned)last);
	return wrong;
}

static const char *set_cpus(const struct config_key *key, struct cpu_set *place, struct ini_text value)
{
	struct cpu_set found = { { 0 } };
	const char *wrong = NULL;

	if (ini_equal(value, "auto")) {
		cpu_set_add(place, 0, CPU_SET_SIZE - 1);
		return NULL;
	}
	while (!(wrong = take_range(key, &value, &found)) && value.length) {
		if (*value.bytes != ',')
			return "not a number";
		value.bytes++;
		value.length--;
	}
	if (!wrong)
		*place = found;
	return wrong;
}

static const char *set_size(const struct config_key *key, uint64_t *place, struct ini_text value)
{
	static const char suffixes[] = "KMGT";
	uint64_t number = 0;
	const char *wrong = take_number(&value, &number);

	for (unsigned i = 0; !wrong && value.length == 1 && i < 4; i++) {
		if ((value.bytes[0] & ~0x20) != suffixes[i])
			continue;
		if (number >> (64 - 10 * (i + 1)))
			return "too large";
		number <<= 10 * (i + 1);
		value.length = 0;
	}
	if (!wrong)
		wrong = value.length ? "not a size" : check_range(key, number);
	if (!wrong)
		*place = number;
	return wrong;
}

/* Three numbers with an x between; each fits its field, for their product is at most 64. */
static const char *set_topology(uint64_t *place, struct ini_text value)
{
	uint64_t number[3], product = 1;
	const char *wrong;

	if (ini_equal(value, "auto")) {
		*place = CONFIG_AUTO;
		return NULL;
	}
	for (unsigned i = 0; i < 3; i++) {
		if (value.length && value.bytes[0] == '0')
			return "too small"; /* nor is 0x of a second number hexadecimal */
		wrong = take_number(&value, &number[i]);
		if (!wrong && i < 2 && (!value.length || (value.bytes[0] | 0x20) != 'x'))
			wrong = "not three numbers";
		if (wrong)
			return wrong;
		if (number[i] > MACHINE_MAX_VCPUS || (product *= number[i]) > MACHINE_MAX_VCPUS)
			return "too large";
		value.bytes += i < 2;
		value.length -= i < 2;
	}
	if (value.length)
		return "not three numbers";
	*place = TOPOLOGY(number[0], number[1], number[2]);
	return NULL;
}

/* choices: words with one blank between. */
static const char *set_choice(const char *choices, uint64_t *place, struct ini_text value)
{
	struct ini_text rest = text_of(choices), word, none;

	for (uint64_t i = 0; ini_list_next(&rest, &word, &none); i++) {
		if (!ini_same(word, value))
			continue;
		*place = i;
		return NULL;
	}
	return "no such choice";
}

/* The pool is as large as the longest text, and every value costs the text more bytes than the pool: it can't run full.
 */
static const char *store_text(struct quire_config *config, const char **place, struct ini_text value)
{
	char *copy = config->pool + config->pool_used;

	if (value.length >= sizeof(config->pool) - config->pool_used)
		return "too much text";
	for (size_t i = 0; i < value.length; i++)
		copy[i] = value.bytes[i];
	copy[value.length] = 0;
	config->pool_used += value.length + 1;
	*place = copy;
	return NULL;
}

static bool is_name_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || digit_of(c) < 10 || c == '_' || c == '-';
}

static bool is_file_byte(char c)
{
	return is_name_byte(c) || c == '/' || c == '.' || c == '+' || c == '~' || c == ' ';
}

static const char *check_bytes(struct ini_text value, uint64_t maximum, bool (*good)(char))
{
	if (!value.length)
		return "empty";
	if (value.length > maximum)
		return "too long";
	for (size_t i = 0; i < value.length; i++)
		if (!good(value.bytes[i]))
			return "a character that may not stand here";
	return NULL;
}

static const char *set_text(struct quire_config *config, const struct config_key *key, const char **place,
			    struct ini_text value)
{
	const char *wrong = value.length > key->maximum ? "too long" : NULL;

	if (key->kind == KIND_NAME)
		wrong = check_bytes(value, key->maximum, is_name_byte);
	if (key->kind == KIND_FILE)
		wrong = check_bytes(value, key->maximum, is_file_byte);
	return wrong ? wrong : store_text(config, place, value);
}

static const char *set_modules(struct quire_config *config, struct config_modules *place, struct ini_text value)
{
	struct config_modules found = { .count = 0 };
	struct ini_text name, arguments;

	while (ini_list_next(&value, &name, &arguments)) {
		struct config_module *module = &found.list[found.count];
		const char *wrong;

		if (!name.length)
			return "parentheses that don't match, or a missing name";
		if (found.count == CONFIG_MAX_MODULES)
			return "too many";
		wrong = check_bytes(name, CONFIG_MAX_FILE, is_file_byte);
		if (!wrong)
			wrong = store_text(config, &module->name, name);
		module->arguments = "";
		if (!wrong && arguments.length)
			wrong = store_text(config, &module->arguments, arguments);
		if (wrong)
			return wrong;
		found.count++;
	}
	if (!found.count)
		return "empty";
	*place = found;
	return NULL;
}

const char *config_set(struct quire_config *config, const struct config_key *key, void *section, struct ini_text value)
{
	void *place = (char *)section + key->offset;

	switch (key->kind) {
	case KIND_SWITCH: return set_choice("off on", place, value);
	case KIND_NUMBER: return set_number(key, place, value);
	case KIND_SIZE: return set_size(key, place, value);
	case KIND_CHOICE: return set_choice(key->choices, place, value);
	case KIND_TOPOLOGY: return set_topology(place, value);
	case KIND_TEXT:
	case KIND_NAME:
	case KIND_FILE: return set_text(config, key, place, value);
	case KIND_CPUS: return set_cpus(key, place, value);
	case KIND_MODULES: return set_modules(config, place, value);
	}
	return "a key of no kind";
}

void config_set_standard(struct quire_config *config, const struct config_key *key, void *section)
{
	void *place = (char *)section + key->offset;

	if (key->kind == KIND_MODULES)
		*(struct config_modules *)place = (struct config_modules){ .count = 0 };
	else if (key->kind == KIND_TEXT || key->kind == KIND_NAME || key->kind == KIND_FILE)
		*(const char **)place = key->standard;
	else if (config_set(config, key, section, text_of(key->standard)))
		*(uint64_t *)place = key->minimum; /* no default of the table is that bad: test_config proves it */
}
