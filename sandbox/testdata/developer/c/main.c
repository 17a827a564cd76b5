#include <pthread.h>
#include <stdio.h>

const char *greeting(void);

static void *greet(void *unused)
{
	(void)unused;
	puts(greeting());
	return NULL;
}

int main(void)
{
	pthread_t thread;
	return pthread_create(&thread, NULL, greet, NULL) || pthread_join(thread, NULL);
}
