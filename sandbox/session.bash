# The driver of a session: it runs before each prompt (PROMPT_COMMAND) and stays
# there, taking commands from the Go process, until the prompt is wanted.
#
# To the Go process: "NONCE STATUS r|p DIRECTORY\0", r for ready, p for the
# prompt; the nonce is that of the command that has just ended, or empty. From
# it: "P\0", or "NONCE COMMAND NONCE\0" without the spaces. A signal can cut a
# message in two, so it is sent again after a report that has not its nonce, and
# what has been run already is passed over.
export -n PROMPT_COMMAND
unset -v HISTFILE MAILCHECK
__lm_nonce= __lm_last= __lm_left= __lm_prompt= __lm_aliases=
__lm_report() {
	\builtin printf '%s %d %s %.4096s\0' "$__lm_nonce" "$__lm_status" "$1" "${DIRSTACK[0]-${PWD-}}" >&252
	__lm_nonce=
}
# Aliases can be of reserved words, too: the loop is read without any.
__lm_enter() {
	__lm_status=$?
	! \builtin shopt -q expand_aliases || __lm_aliases=1
	\builtin shopt -u expand_aliases
	return "$__lm_status"
}
__lm_next() {
	__lm_status=${__lm_left:-$?}
	__lm_left=
	[[ ! $__lm_aliases ]] || \builtin shopt -s expand_aliases
	__lm_aliases=
	# Here bash forgets jobs that are done only when it is asked about them.
	[[ ! $__lm_nonce ]] || \builtin jobs >/dev/null
	__lm_report r
	while :; do
		IFS= \builtin read -r -d '' -u 252 __lm_command
		case $? in
		0) ;;
		1) \builtin exit 1 ;; # the Go process is gone
		*) __lm_command= ;;    # a trap has cut it short
		esac
		if [[ $__lm_command == P ]]; then
			__lm_prompt=1
			return 1
		fi
		if ((${#__lm_command} <= 64)) || [[ ${__lm_command:0:32} != "${__lm_command: -32}" ]]; then
			__lm_report r
		elif [[ ${__lm_command:0:32} != "$__lm_last" ]]; then
			__lm_nonce=${__lm_command:0:32}
			__lm_last=$__lm_nonce
			__lm_command=${__lm_command:32:-32}
			return 0
		fi
	done
}
# The loop has ended: for the prompt, or because the command was a break or was stopped.
__lm_leave() {
	__lm_status=$?
	if [[ ! $__lm_prompt ]]; then
		__lm_left=$__lm_status
		return 1
	fi
	__lm_prompt=
	PROMPT_COMMAND=$__lm_driver
	__lm_report p
}
__lm_resume() { return "$__lm_status"; }
# For a fork of the session: its variables but those of bash and of this driver, and
# text that makes another shell like this one. Options are last: they change the rest.
__lm_names() {
	\builtin compgen -v | while IFS= \builtin read -r __lm_v; do
		case $__lm_v in
		_ | __lm_* | BASH* | COLUMNS | COMP_* | DIRSTACK | EPOCH* | EUID | FUNCNAME | GROUPS | HIST* | LINENO | LINES | PIPESTATUS | PPID | PROMPT_COMMAND | PWD | RANDOM | READLINE_* | SECONDS | SHELLOPTS | SHLVL | SRANDOM | UID) ;;
		*) \builtin printf '%s\n' "$__lm_v" ;;
		esac
	done
}
__lm_state() {
	__lm_left=$?
	\builtin printf 'for __lm_v in $(__lm_names); do \\builtin unset -v "$__lm_v"; done\n'
	\builtin printf '\\builtin cd -- %q\n' "${PWD-/}"
	\builtin umask -p
	\builtin printf 'set --'
	((!$#)) || \builtin printf ' %q' "$@"
	\builtin printf '\n'
	__lm_names | while IFS= \builtin read -r __lm_v; do
		\builtin declare -p "$__lm_v"
	done
	\builtin printf 'shopt -s extglob\n'
	\builtin declare -F | while IFS= \builtin read -r __lm_v; do
		[[ ${__lm_v##* } != __lm_* ]] || continue
		\builtin declare -f "${__lm_v##* }"
		[[ $__lm_v == 'declare -f '* ]] || \builtin printf '%s\n' "$__lm_v"
	done
	\builtin shopt -p
	\builtin set +o
	\builtin alias -p
	\builtin printf '__lm_left=%d\n\\builtin printf done\n' "$__lm_left"
}
# The shell keeps the socket for itself: only the copy that bash makes while a
# redirection is in force, the lowest from 10 on, is closed when it executes a program.
eval 'exec 252<&10' 253<&-
exec 253<&-
PS1='\w\$ '
# A command has its own stdin, stdout and stderr: what it does to them ends with it.
__lm_driver='\__lm_enter && \:; \builtin eval "$__lm_loop"'
__lm_loop='while __lm_next; do __lm_resume && :; \builtin eval "$__lm_command" <>/dev/pts/0 >"/run/session/$__lm_nonce.1" 2>"/run/session/$__lm_nonce.2"; done; __lm_leave || \builtin eval "$__lm_driver"'
PROMPT_COMMAND=$__lm_driver
eval "$__lm_driver"
