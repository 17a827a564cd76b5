const char *greeting(void)
{
	return "compiled";
}
