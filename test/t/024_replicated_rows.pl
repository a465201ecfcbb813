# Where rows come from elsewhere than INSERT: logical replication, COPY, partitions.
use strict;
use warnings;
use FindBin;
use lib "$FindBin::RealBin/../perl";
use JSON::PP;
use LpUsers;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time);

my $sim = LpUsers::account();
my $publisher = PostgreSQL::Test::Cluster->new('publisher');
my $node = LpUsers::server(conf => "wal_level = logical\nautovacuum = off\nwal_retrieve_retry_interval = '200ms'\nlpusers.idle_timeout = '300ms'\n");
$publisher->init(allows_streaming => 'logical');
$publisher->start;
LpUsers::connect_account($node, $sim);

sub q1 { my ($sql) = @_; return $node->safe_psql('postgres', $sql); }
sub posts { my ($name) = @_; return $sim->count(method => 'POST', path => '/users', login => "$name\@example.com"); }
sub count_of { my ($pattern, $state) = @_; return q1("SELECT count(*) FROM lp_requests WHERE login_name ~ '$pattern'" . ($state ? " AND state = '$state'" : '')); }

# How often each login exists, in one question.
sub census { my %n; $n{ $_->{loginName} }++ foreach grep { !$_->{deleted} } @{ $sim->get('users') }; return \%n; }

sub delivered
{
	my ($what, @names) = @_;
	my $list = join(',', map { "'$_\@example.com'" } @names);

	LpUsers::wait_for(sub { q1("SELECT count(*) FROM lp_requests WHERE login_name IN ($list) AND state = 'created'") == @names }, "$what: created");
	my $census = census();
	is(join(' ', grep { ($census->{"$_\@example.com"} // 0) != 1 } @names), '', "$what: the account has each once");
	return;
}

# A table on both sides, and on ours a trigger, that calls a function of the table's schema by its bare name.
my $columns = '(id int PRIMARY KEY, name text NOT NULL, mail text, boss int)';
my $attributes = q("'loginName=mail', 'fullName=full_name(name)', 'nickname=name', 'email=mail', 'passwordSh=''Aa1!'' || md5(name)', 'isEnabled=true', 'maxChats=3',
	'profileIds=ARRAY[1]', 'memberOf=jsonb_build_object(''agentGroupId'', 1)'") =~ s/^"|"$//gr;
my $function = q{CREATE FUNCTION hr.full_name(text) RETURNS text LANGUAGE sql IMMUTABLE AS $$ SELECT 'Full ' || $1 $$};

sub tables { my ($sql) = @_; $publisher->safe_psql('postgres', $sql); q1($sql); return; }
sub insert { my ($table, @names) = @_; return "INSERT INTO hr.$table (id, name, mail) VALUES " . join(', ', map { /(\d+)$/ ? "($1, '$_', '$_\@example.com')" : die } @names); }

tables('CREATE SCHEMA hr');
q1($function);
tables("CREATE TABLE hr.$_ $columns") foreach 'always', 'replica', 'origin', 'statement', 'sync', 'unread';
sub trigger
{
	my ($table, $enable, $level, $more) = @_;

	# one transaction: no row is to arrive between two triggers
	q1("BEGIN; DROP TRIGGER IF EXISTS provision ON hr.$table; CREATE TRIGGER provision AFTER INSERT ON hr.$table " . ($level eq 'STATEMENT' ? 'REFERENCING NEW TABLE AS hired ' : '') .
		"FOR EACH $level EXECUTE FUNCTION lp_create_users_trigger('12345678', $attributes" . ($more ? ", '$more'" : '') . ')' .
		($enable ? "; ALTER TABLE hr.$table ENABLE $enable TRIGGER provision" : '') . '; COMMIT');
	return;
}
trigger('always', 'ALWAYS', 'ROW');
trigger('replica', 'REPLICA', 'ROW');
trigger('origin', '', 'ROW');
trigger('statement', 'ALWAYS', 'STATEMENT');
trigger('sync', 'ALWAYS', 'ROW', 'mode=sync');

# ------------------------------------------------------------------------------------------------- the first copy

my $connection;

subtest 'the initial copy of a subscription' => sub {
	$publisher->safe_psql('postgres', insert($_, "${_}1", "${_}2")) foreach 'always', 'statement';
	$publisher->safe_psql('postgres', "CREATE PUBLICATION people FOR TABLE hr.always, hr.replica, hr.origin, hr.statement; CREATE PUBLICATION others FOR TABLE hr.sync");
	$connection = $publisher->connstr . ' dbname=postgres';
	q1("CREATE SUBSCRIPTION people CONNECTION '$connection' PUBLICATION people");
	$node->poll_query_until('postgres', "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel") or die 'not synchronised';
	delivered('the first copy, FOR EACH ROW', 'always1', 'always2');
	# PostgreSQL makes the first copy as COPY does it, which fires statement triggers, too
	delivered('the first copy, FOR EACH STATEMENT', 'statement1', 'statement2');
};

subtest 'applied rows are queued' => sub {
	my @always = map { "always$_" } 3 .. 12;
	$publisher->safe_psql('postgres', insert('always', @always));
	$publisher->safe_psql('postgres', insert($_, "${_}1", "${_}2")) foreach 'replica', 'origin';
	$publisher->safe_psql('postgres', insert('statement', 'statement3', 'statement4'));
	$publisher->wait_for_catchup('people');
	is(q1("SELECT count(*) FROM hr.always"), 12, 'the rows are there');
	delivered('ENABLE ALWAYS', @always);
	delivered('ENABLE REPLICA', 'replica1', 'replica2');
	is(q1('SELECT count(*) FROM hr.origin'), 2, 'a trigger that is simply enabled: rows arrive');
	is(count_of('^origin'), 0, '... and it does not fire');
	is(q1('SELECT count(*) FROM hr.statement'), 4, 'a statement trigger: rows arrive');
	is(count_of('^statement[34]'), 0, '... and it does not fire when changes are applied');
	is(q1("SELECT DISTINCT source_table || ' ' || path || ' ' || (send_as = current_user) FROM lp_requests WHERE login_name ~ '^(always|replica)'"), 'hr.always queue true
hr.replica queue true', 'they are sent as the owner of the table');
	is(q1("SELECT source_key FROM lp_requests WHERE login_name = 'always7\@example.com'"), '{"id": 7}', '... with the key of their row');
	is(q1("SELECT string_agg(requested_by, ' ') FROM (SELECT DISTINCT requested_by FROM lp_requests) r"), q1('SELECT current_user'), '... requested by the subscription\'s owner');
	is(scalar(grep { $_->{fullName} ne "Full $_->{nickname}" } grep { $_->{loginName} =~ /^(always|replica)/ } @{ $sim->get('users') }), 0,
		'an expression finds a function of the table\'s schema, though search_path is empty there');

	# A transaction rolled back by the publisher is not there; an inner rollback neither.
	$publisher->safe_psql('postgres', 'BEGIN; ' . insert('always', 'always20') . '; ROLLBACK; BEGIN; ' . insert('always', 'always21') . '; SAVEPOINT a; ' .
		insert('always', 'always22') . '; ROLLBACK TO a; COMMIT');
	$publisher->wait_for_catchup('people');
	delivered('a transaction with a part rolled back', 'always21');
	is(count_of('^always2[02]'), 0, '... and of the rest nothing');

	# Bad data do not stop the replication.
	$publisher->safe_psql('postgres', "INSERT INTO hr.always VALUES (30, 'always30', NULL), (31, 'always31', 'always31\@example.com'), (32, 'twice', 'always31\@example.com')");
	$publisher->wait_for_catchup('people');
	delivered('next to bad data', 'always31');
	is(q1("SELECT count(*), count(DISTINCT error) FROM lp_requests WHERE source_table = 'hr.always' AND state = 'failed'"), '2|2', 'bad data are recorded as failed');
	like(q1("SELECT error FROM lp_requests WHERE source_key = '{\"id\": 30}' AND source_table = 'hr.always'"), qr/"loginName"|"email"/, '... with the attribute');

	# Nor does a set-up that is gone.
	q1('ALTER SERVER acme OPTIONS (SET account \'87654321\')');
	$publisher->safe_psql('postgres', insert('always', 'always40'));
	$publisher->wait_for_catchup('people');
	LpUsers::wait_for(sub { count_of('^always40', 'held') == 1 }, 'the row to be held');
	q1("ALTER SERVER acme OPTIONS (SET account '12345678'); SELECT lp_release('12345678')");
	delivered('the set-up was wrong for a while', 'always40');
};

subtest 'mode=sync is refused in an apply worker' => sub {
	{
		my $offset = -s $node->logfile;

		q1("CREATE SUBSCRIPTION others CONNECTION '$connection' PUBLICATION others");
		$node->poll_query_until('postgres', "SELECT bool_and(srsubstate = 'r') FROM pg_subscription_rel") or die 'not synchronised';
		$publisher->safe_psql('postgres', insert('sync', 'sync1'));
		LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /ERROR:  mode=sync cannot be used in logical replication/ }, 'mode=sync to be refused');
		is(posts('sync1'), 0, 'mode=sync in logical replication: nothing is sent');
		is(q1('SELECT count(*) FROM hr.sync'), 0, '... the row does not arrive');
		is(count_of('^sync'), 0, '... nothing is recorded');
		trigger('sync', 'ALWAYS', 'ROW');
		$publisher->wait_for_catchup('others');
		delivered('mode=queue instead', 'sync1');
		is(posts('sync1'), 1, '... by one POST');
		q1('DROP SUBSCRIPTION others');
	}

	# A subscriber whose queue cannot be written.
	{
		my $offset = -s $node->logfile;

		q1('ALTER TABLE lp_requests ADD CONSTRAINT no CHECK (login_name !~ \'^always50\')');
		$publisher->safe_psql('postgres', insert('always', 'always50'));
		LpUsers::wait_for(sub { LpUsers::log_since($node, $offset) =~ /ERROR:  new row for relation "lp_requests" violates/ }, 'the queue to refuse the row');
		is(q1('SELECT count(*) FROM hr.always WHERE id = 50'), 0, 'what cannot be queued is not applied');
		q1('ALTER TABLE lp_requests DROP CONSTRAINT no');
		$publisher->wait_for_catchup('people');
		delivered('applied when the queue can be written', 'always50');
		is(posts('always50'), 1, '... by one POST');
	}
	q1('DROP SUBSCRIPTION people');
};

subtest 'COPY queues its rows' => sub {
	my $file = $node->basedir . '/copy';
	my (@good, @bad, $text);

	foreach my $n (1 .. 2000)
	{
		my $bad = $n % 100 == 0;
		# a mail that is missing, and one that is there twice
		$text .= $bad ? ($n % 200 == 0 ? "$n\tbulk$n\t\\N\t\\N\n" : "$n\tbulk$n\tbulk1\@example.com\t\\N\n") : "$n\tbulk$n\tbulk$n\@example.com\t\\N\n";
		push @{ $bad ? \@bad : \@good }, "bulk$n";
	}
	append_to_file($file, $text);
	q1('CREATE TABLE hr.bulk ' . $columns);
	trigger('bulk', '', 'STATEMENT');
	q1('ALTER SERVER acme OPTIONS (ADD hold_above \'0\')');
	my $before = $sim->count(method => 'POST', path => '/users');
	my $start = time();
	q1("\\copy hr.bulk FROM '$file'");
	note(sprintf('COPY of 2,000 rows: %.0f ms', 1000 * (time() - $start)));
	is(q1('SELECT count(*) FROM hr.bulk'), 2000, 'COPY: all rows are in the table');
	is(q1("SELECT count(*), count(DISTINCT source_key) FROM lp_requests WHERE source_table = 'hr.bulk'"), '2000|2000', '... each has its request');
	delivered('COPY', @good);
	note(sprintf('delivered after %.0f ms', 1000 * (time() - $start)));
	is(q1("SELECT error, count(*) FROM lp_requests WHERE source_table = 'hr.bulk' AND state = 'failed' AND source_key ->> 'id' ~ '[13579]00\$' GROUP BY 1"),
		'"loginName" is given twice in this statement|10', '... a login that was there twice is recorded as failed');
	like(q1("SELECT error, count(*) FROM lp_requests WHERE source_table = 'hr.bulk' AND state = 'failed' AND source_key ->> 'id' ~ '[02468]00\$' GROUP BY 1"),
		qr/^"(loginName|email)".*\|10$/, '... as is one that is missing');
	is($sim->count(method => 'POST', path => '/users') - $before, int((@good + 99) / 100), '... in as few POSTs as batch_size allows');
	is(census()->{'bulk1@example.com'}, 1, '... the login that was there twice exists once');
	is(q1("SELECT count(*) FROM lp_payloads p JOIN lp_requests r ON r.id = p.request_id WHERE r.source_table = 'hr.bulk' AND r.state = 'created'"), 0, '... no payload stays');

	# the same again, more than hold_above
	q1('ALTER SERVER acme OPTIONS (SET hold_above \'1000\'); CREATE TABLE hr.again ' . $columns);
	trigger('again', '', 'STATEMENT');
	$before = $sim->count(method => 'POST', path => '/users');
	q1("\\copy hr.again FROM '$file'");
	is(q1("SELECT state, count(*) FROM lp_requests WHERE source_table = 'hr.again' AND state <> 'failed' GROUP BY 1"), 'held|1980', 'COPY of more than hold_above: held');
	is($sim->count(method => 'POST', path => '/users'), $before, '... nothing is sent');
	q1("SELECT count(lp_discard(ARRAY[id])) FROM lp_requests WHERE source_table = 'hr.again' AND state = 'held'");
};

subtest 'rows routed to partitions' => sub {
	{
		my $mapping = q({"loginName": "mail", "fullName": "full_name(name)", "nickname": "name", "email": "mail", "passwordSh": "'Aa1!' || md5(name)", "isEnabled": "true",
		"maxChats": "3", "profileIds": "ARRAY[1]", "memberOf": "jsonb_build_object('agentGroupId', 1)"});

		q1('CREATE TABLE hr.parted (id int PRIMARY KEY, name text NOT NULL, mail text, boss int) PARTITION BY RANGE (id);
			CREATE TABLE hr.low PARTITION OF hr.parted FOR VALUES FROM (0) TO (1000); CREATE TABLE hr.high (mail text, name text NOT NULL, boss int, id int PRIMARY KEY);
			ALTER TABLE hr.parted ATTACH PARTITION hr.high FOR VALUES FROM (1000) TO (2000)');
		like(q1("SELECT lp_attach_trigger('hr.parted', '12345678', \$\$$mapping\$\$)"), qr/^CREATE TRIGGER .* AFTER INSERT ON hr.parted REFERENCING NEW TABLE AS \w+ FOR EACH STATEMENT/, 'a partitioned table gets a statement trigger');
		q1(insert('parted', 'part1', 'part2', 'part1001'));
		q1(insert('parted', 'part3', 'part4', 'part1002'));
		q1("CREATE TABLE hr.later PARTITION OF hr.parted FOR VALUES FROM (2000) TO (3000)");
		q1(insert('parted', 'part2001'));
		my $file = $node->basedir . '/parted';
		append_to_file($file, "5\tpart5\tpart5\@example.com\t\\N\n1003\tpart1003\tpart1003\@example.com\t\\N\n");
		q1("\\copy hr.parted FROM '$file'");
		my @names = map { "part$_" } 1, 2, 1001, 3, 4, 1002, 2001, 5, 1003;
		delivered('a partitioned table: all partitions, in whatever order their columns are', @names);
		is(count_of('^part'), scalar(@names), '... each has one request');
		is(join(' ', map { posts($_) } @names), join(' ', map { 1 } @names), '... and one POST');
		is(q1("SELECT source_key FROM lp_requests WHERE login_name = 'part1002\@example.com'"), '{"id": 1002}', '... also where the columns are in another order');
		is(scalar(grep { $_->{loginName} =~ /^part/ && $_->{fullName} ne "Full $_->{nickname}" } @{ $sim->get('users') }), 0, '... with their own data');
		# a row that moves to another partition is not a new user, nor is a leaver whose user was deleted
		q1(q{SELECT count(*) FROM lp_requests r, LATERAL lp_delete_users('12345678', ARRAY[r.user_id]) WHERE login_name = 'part2@example.com'});
		q1('UPDATE hr.parted SET id = id + 1500 WHERE id < 3');
		is(q1("SELECT count(*) FROM lp_requests WHERE source_table ~ '^hr.(parted|low|high|later)\$'"), scalar(@names), 'a row that moves: nothing is queued');
		LpUsers::wait_for(sub { q1("SELECT count(*) FROM lp_requests WHERE state IN ('pending', 'sending', 'uncertain')") == 0 }, 'the queue to be empty');
		is(census()->{'part1@example.com'}, 1, '... the user exists once');

		q1("SELECT lp_detach_trigger('hr.parted')");
		q1(insert('parted', 'part9'));
		is(count_of('^part9@'), 0, 'after lp_detach_trigger() nothing is queued');
		is(q1("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^lpusers' AND tgrelid IN (SELECT relid FROM pg_partition_tree('hr.parted'))"), 0, '... no partition keeps a trigger');

		# a trigger of one partition only
		like(q1("SELECT lp_attach_trigger('hr.high', '12345678', \$\$$mapping\$\$)"), qr/^CREATE TRIGGER .* AFTER INSERT ON hr.high REFERENCING NEW TABLE AS \w+ FOR EACH STATEMENT/, 'a partition gets one, too');
		q1(insert('parted', 'part10', 'part1010'));
		q1(insert('high', 'part1011'));
		delivered('a partition with a trigger: rows by its own name', 'part1011');
		is(count_of('^part10(10)?@'), 0, '... no others');
	}

	is($sim->text('duplicates') =~ s/\s//gr, '[]', 'no login exists twice');
	is(q1("SELECT count(*) FROM lp_requests WHERE state NOT IN ('created', 'failed', 'done')"), 0, 'nothing is left over');
};

unlike(LpUsers::log_since($node, 0), qr/terminated by signal|TRAP:|PANIC:/, 'nothing crashed');

done_testing();
