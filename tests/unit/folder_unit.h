/*
 * folder_unit — a folder of the test's own: cmocka_run_group_tests(tests, folder_begin, folder_end).
 */
#ifndef PAVISE_TESTS_FOLDER_UNIT_H
#define PAVISE_TESTS_FOLDER_UNIT_H

#include "unit.h"

static char folder[FOLDER_PATH];

static inline int folder_begin(void **state)
{
	(void)state;
	make_folder(folder);
	return 0;
}

static inline int folder_end(void **state)
{
	(void)state;
	remove_folder(folder);
	return 0;
}

#endif
