# shellcheck shell=bash disable=SC2154,SC2034	# variables of run.sh and setup.sh
#
# rows.sh: contenders measured side by side, and the table of what they took.  To be sourced.
#
#	contender NAME COMMAND...	what prints a number: what it took; perhaps a second: peak of memory in MB, or "-"; and
#								perhaps a third: for how much of the first its processor worked
#	peer NAME COMMAND...		the same for what could be used instead: that it cannot do the job is no failure
#	measure						run the contenders in turn, $rounds times, so that whatever else the machine does
#								hits all of them; their values stay, the list of contenders begins anew
#	series NAME COMMAND...		the same for one that prints many such lines: all of them are values
#	row LABEL UNIT NAME [AGAINST [AIM]]
#								a line of the table.  The ratio is the median of the ratios of the rounds, or with
#								$busy that of the smallest values.  AIM is
#								"<= 1.3" of AGAINST, or ">= 13": so many times as fast as AGAINST
#	row_at_most LABEL UNIT NAME MAX
#								a line whose median has an aim
#
# A command that prints "n/a" is something that cannot be had here.  One that fails is remembered in $failures.  The table goes to fd 3, the terminal, and to fd 4, the report.

names=()
declare -A commands
declare -A is_peer
aims_met=0
aims_missed=()
aims_unknown=()
failures=()

values()
{
	echo "$work/values/$1"
}

contender()
{
	names+=("$1")
	commands[$1]=$(printf '%q ' "${@:2}")
	: >"$(values "$1")"
}

peer()
{
	contender "$@"
	is_peer[$1]=yes
}

# Leave the machine to others for as long as it was kept busy since then, if that is wanted.
pause_since()
{
	[ -z "$pause" ] || sleep "$(awk -v from="$1" -v to="${EPOCHREALTIME/,/.}" 'BEGIN { print to - from }')"
}

# Run one contender once.
sample()
{
	local log=$work/log/$1.log value begun=${EPOCHREALTIME/,/.}

	value=$(eval "${commands[$1]}" 2>"$log" | tail -n 1) || true
	pause_since "$begun"
	if [[ ! $value =~ ^(n/a|[0-9.]+( [0-9. -]+)?)$ ]]; then
		echo "$1 failed: $(cut -c 1-200 "$log" | grep -m 1 -v WARNING)" >&2
		[ -n "${is_peer[$1]:-}" ] || failures+=("$1")
		value=failed
	fi
	echo "$value" >>"$(values "$1")"
}

measure()
{
	local round name

	for ((round = 1; round <= rounds; round++)); do
		before_round
		for name in "${names[@]}"; do sample "$name"; done
	done
	names=()
}

series()
{
	local log=$work/log/$1.log

	"${@:2}" >"$(values "$1")" 2>"$log" && [ -s "$(values "$1")" ] || failures+=("$1")
}

# What a group wants done before each round; it may define it anew.
before_round()
{
	:
}

# statistics FILE [COLUMN]: median, smallest and largest of its numbers, or nothing.
statistics()
{
	awk -v c="${2:-1}" '$c ~ /^[0-9.]+$/ { print $c }' "$1" | sort -n | awk '
		{ v[NR] = $1 }
		END { if (NR) print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2, v[1], v[NR] }'
}

# column NAME NUMBER: of its values, a dash where there is none.
column()
{
	awk -v c="$2" '{ print $c == "" ? "-" : $c }' "$(values "$1")"
}

# ratio NAME AGAINST [COLUMN]: the median of the rounds' ratios; that of the smallest values if $busy.
ratio()
{
	local ratios=$work/values/ratios column=${3:-1} mine other

	if [ -n "$busy" ]; then
		read -r _ mine _ <<<"$(statistics "$(values "$1")" "$column")"
		read -r _ other _ <<<"$(statistics "$(values "$2")" "$column")"
		[ -z "$mine" ] || [ -z "$other" ] || awk -v x="$mine" -v y="$other" 'BEGIN { if (y > 0) print x / y }'
		return
	fi
	paste -d ' ' <(column "$1" "$column") <(column "$2" "$column") |
		awk '$1 ~ /^[0-9.]+$/ && $2 ~ /^[0-9.]+$/ && $2 > 0 { print $1 / $2 }' >"$ratios"
	statistics "$ratios" | cut -d ' ' -f 1
}

# Four digits that count, or "n/a".
short()
{
	[ -n "$1" ] || { echo "${2:-n/a}"; return; }
	awk -v x="$1" 'BEGIN { printf((x >= 1000 ? "%.0f" : x >= 100 ? "%.1f" : x >= 1 ? "%.2f" : "%.3f") "\n", x) }'
}

show()
{
	local text

	# shellcheck disable=SC2059	# callers write formats
	printf -v text "$@"
	printf '%s' "$text" >&3
	printf '%s' "$text" >&4
}

table_format='| %-62s | %-2s | %8s | %8s | %8s | %12s | %-8s | %-6s | %8s | %7s | %7s |\n'

# heading GROUP: begins a table.
heading()
{
	show '\n### %s\n\n' "$1"
	show "$table_format" '' '' median min max ratio aim '' worked ratio 'peak MB'
	show "$table_format" --- --- ---: ---: ---: ---: --- --- ---: ---: ---:
}

# judge VALUE AIM LABEL: is "1.2" "<= 1.3"?  Prints met, missed or nothing, and counts.
judge()
{
	verdict=
	[ -n "$2" ] || return 0
	if [ -z "$1" ]; then
		aims_unknown+=("$3")
		verdict=n/a
	elif awk -v x="$1" -v op="${2%% *}" -v y="${2##* }" 'BEGIN { exit op == "<=" ? x > y : x < y }'; then
		aims_met=$((aims_met + 1))
		verdict=met
	else
		aims_missed+=("$3: $(short "$1"), aim $2")
		verdict=MISSED
	fi
}

# line LABEL UNIT NAME RATIO AIM WORKED_RATIO
line()
{
	local median min max peak worked

	read -r median min max <<<"$(statistics "$(values "$3")")"
	read -r peak _ <<<"$(statistics "$(values "$3")" 2)"
	read -r worked _ <<<"$(statistics "$(values "$3")" 3)"
	show "$table_format" "$1" "$2" "$(short "$median")" "$(short "$min" '')" "$(short "$max" '')" "$4" "$5" "$verdict" \
		"$(short "$worked" '')" "$6" "$(short "$peak" '')"
}

# times RATIO [WORDS]: "1.2x".
times()
{
	[ -z "$1" ] || echo "$(short "$1")x${2:+ $2}"
}

row()
{
	local quotient='' work_quotient=''

	verdict=
	case ${5:-} in
		'>='*)
			quotient=$(ratio "$4" "$3")
			work_quotient=$(ratio "$4" "$3" 3)
			;;
		*)
			[ -z "${4:-}" ] || quotient=$(ratio "$3" "$4")
			[ -z "${4:-}" ] || work_quotient=$(ratio "$3" "$4" 3)
			;;
	esac
	judge "$quotient" "${5:-}" "$1"
	case ${5:-} in
		'>='*) line "$1" "$2" "$3" "$(times "$quotient" faster)" "$5" "$(times "$work_quotient")" ;;
		*) line "$1" "$2" "$3" "$(times "$quotient")" "${5:-}" "$(times "$work_quotient")" ;;
	esac
}

row_at_most()
{
	local median min

	read -r median min _ <<<"$(statistics "$(values "$3")")"
	[ -z "$busy" ] || median=$min
	judge "$median" "<= $4" "$1"
	line "$1" "$2" "$3" '' "<= $4" ''
}

summary()
{
	local missed

	show '\n%d aims met, %d missed, %d not measured here.\n' "$aims_met" "${#aims_missed[@]}" "${#aims_unknown[@]}"
	for missed in "${aims_missed[@]}"; do show '\nMissed: %s\n' "$missed"; done
}
