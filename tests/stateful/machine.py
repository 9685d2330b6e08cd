"""Random histories: operators change what they can change, agents ask for what they like, and after each step all must hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from stateful.agents import Heard
from stateful.house import LONE, OWN_HOSTS, STRANGE_HOST, House
from stateful.ledger import Ledger, Sent
from stateful.office import Office
from stateful.policy import RULES, RuleText, is_allowed
from stateful.tenant import OWN, SHARED, AgentModel, KeyModel, Tenant
from stateful.wishes import BROKEN, CROOKED, EVERYTHING, Wish, numbers, request_bytes, rule_sets, services, tenants, wishes

MOST_AGENTS = 4
CHANGES = ("nothing", "revoke", "revoke", "switch", "rotate", "remove")


class Histories(RuleBasedStateMachine):
    """One history. The house is the same for all of them."""

    house: House

    def __init__(self) -> None:
        super().__init__()
        self.tenants: list[Tenant] = []
        self.office = Office(self.house)
        self.ledger = Ledger(self.house, self.office)

    @initialize(schemes=st.permutations(("bearer", "header", "query", "basic")), rules=st.tuples(*[rule_sets] * 6))
    def found(self, schemes: Sequence[str], rules: Sequence[tuple[RuleText, ...]]) -> None:
        """Three workspaces with a host each and one that all of them use, every key on, an agent each."""
        names = (LONE, f"first-{self.office.number()}", f"second-{self.office.number()}")
        for at, (name, host) in enumerate(zip(names, OWN_HOSTS, strict=True)):
            # The lone workspace stays from one history to the next, and so do its keys' schemes.
            scheme = "header" if name == LONE else schemes[at]
            tenant = Tenant(name, host, {OWN: KeyModel("bearer"), SHARED: KeyModel(scheme)})
            self.tenants.append(tenant)
            for service in (OWN, SHARED):
                self.house.state.cool_down(name, service, 0.0)
                if (name, f"{name}-{service}") in self.house.state.snapshot().keys:
                    self.house.keys.remove(self.house.keys.find(name, f"{name}-{service}"))
                self.office.store_key(tenant, service)
                self.office.switch(tenant, service, on=True)
            tenant.agents.append(self.office.new_agent(tenant))
        self.tenants[0].agents.append(AgentModel(self.office.program(None), None))
        texts = {}
        for at, tenant in enumerate(self.tenants):
            tenant.rules = {OWN: (RULES[0], *rules[at]), SHARED: (RULES[0], *rules[at + 3])}
            if self.office.is_refused(tenant, tenant.policy(0)):
                tenant.rules = {OWN: RULES[:1], SHARED: RULES[:1]}
            texts[tenant] = tenant.policy(self.office.number())
        self.office.put(texts, is_good=True)

    # What operators do

    @rule(who=tenants, service=services)
    def switch(self, who: int, service: str) -> None:
        """Turn runtime access off or on."""
        tenant = self.tenants[who]
        if tenant.keys[service].value is not None:
            self.office.switch(tenant, service, on=not tenant.keys[service].is_on)

    @rule(who=tenants, service=services, in_grace=st.booleans())
    def rotate(self, who: int, service: str, in_grace: bool) -> None:
        """Give a key another value."""
        tenant = self.tenants[who]
        if tenant.keys[service].value is not None:
            self.office.rotate(tenant, service, in_grace=in_grace)

    @rule(who=tenants, service=services)
    def remove_or_add(self, who: int, service: str) -> None:
        """Take a key away, or store one where there is none."""
        tenant = self.tenants[who]
        if tenant.keys[service].value is None:
            self.office.store_key(tenant, service)
        else:
            self.office.remove(tenant, service)

    @rule(
        who=tenants, service=services, rules=rule_sets, limit=st.sampled_from((None, None, 1, 3)), broken=st.sampled_from(BROKEN)
    )
    def edit_policy(self, who: int, service: str, rules: tuple[RuleText, ...], limit: int | None, broken: str | None) -> None:
        """Write other rules for a service, or what is no policy: that leaves the last good one in force."""
        tenant = self.tenants[who]
        if broken is not None:
            self.office.put({tenant: f"{broken}# {self.office.number()}\n"}, is_good=False)
            return
        before = tenant.rules[service], tenant.limits[service]
        tenant.rules[service] = rules
        tenant.limits[service] = limit if tenant.name != LONE else None
        text = tenant.policy(self.office.number())
        is_refused = self.office.is_refused(tenant, text)
        self.office.put({tenant: text}, is_good=not is_refused)
        if is_refused:
            tenant.rules[service], tenant.limits[service] = before

    @rule(who=tenants, number=numbers)
    def add_or_revoke_an_agent(self, who: int, number: int) -> None:
        """Mint another token, or end one; a connection that its agent keeps stays open."""
        tenant, agent = self._agent(who, number)
        if len(tenant.agents) < MOST_AGENTS:
            tenant.agents.append(self.office.new_agent(tenant))
        elif agent.name is not None and agent.is_live:
            self.office.revoke(tenant, agent)

    @precondition(lambda self: any(tenant.cooling for tenant in self.tenants))
    @rule()
    def let_time_pass(self) -> None:
        """End every silence that an upstream asked for."""
        for tenant in self.tenants:
            for service in tenant.cooling:
                self.house.state.cool_down(tenant.name, service, 0.0)
            tenant.cooling.clear()

    # What agents do

    @rule(who=tenants, number=numbers, service=services, wish=wishes())
    def ask(self, who: int, number: int, service: str, wish: Wish) -> None:
        """Ask a service of one's own workspace for something."""
        self._ask(who, number, service, wish)

    @rule(who=tenants, number=numbers, service=services, change=st.sampled_from(CHANGES), wish=wishes())
    def ask_around_a_change(self, who: int, number: int, service: str, change: str, wish: Wish) -> None:
        """Send one request twice over one connection, with a change in between: what was decided once is decided anew."""
        tenant, agent = self._agent(who, number)
        same = replace(self._sound(tenant, service, replace(wish, is_sound=True), number | 1), is_sound=False, keep=True)
        self._ask(who, number, service, same)
        is_stored = tenant.keys[service].value is not None
        if change == "revoke" and agent.name is not None and agent.is_live:
            self.office.revoke(tenant, agent)
        elif change == "switch" and is_stored:
            self.office.switch(tenant, service, on=not tenant.keys[service].is_on)
        elif change == "rotate" and is_stored:
            self.office.rotate(tenant, service, in_grace=bool(number % 2))
        elif change == "remove" and is_stored:
            self.office.remove(tenant, service)
        self._ask(who, number, service, same)
        if not agent.is_live:
            agent.program.leave()
            tenant.agents[tenant.agents.index(agent)] = self.office.new_agent(tenant)

    @rule(who=tenants, number=numbers, service=services, change=st.sampled_from(CROOKED), wish=wishes())
    def ask_crookedly(self, who: int, number: int, service: str, change: Callable[[Wish], Wish], wish: Wish) -> None:
        """Ask for a path with more than one reading, or by a method that no rule can name: no rule lets that through."""
        tenant, agent = self._agent(who, number)
        self._send([(tenant, agent, service, change(wish), False)])

    @rule(who=tenants, number=numbers, to=st.sampled_from((*OWN_HOSTS, STRANGE_HOST)), is_inside=st.booleans(), wish=wishes())
    def reach_for_anothers(self, who: int, number: int, to: str, is_inside: bool, wish: Wish) -> None:
        """Ask for a host of another workspace or of nobody: outright, or inside of a connection to one's own."""
        tenant, agent = self._agent(who, number)
        if to != tenant.host:
            self._send([(tenant, agent, OWN, wish, False)], authority=None if is_inside else to, named=to)

    @rule(who=tenants, other=tenants, wish=wishes(), service=services)
    def pose_as_another(self, who: int, other: int, wish: Wish, service: str) -> None:
        """Show a token under another workspace's name, or one that was never minted."""
        tenant, posed = self.tenants[who], self.tenants[other]
        token = tenant.agents[0].program.credentials
        assert token is not None
        shown = (posed.name, token[1] if other != who else f"{token[1]}x")
        stranger = AgentModel(self.office.program(shown), None, is_live=False)
        self._send([(posed, stranger, service, replace(wish, keep=False), False)])

    @rule(who=tenants, wish=wishes())
    def ask_in_cleartext(self, who: int, wish: Wish) -> None:
        """Ask the proxy for a bridged host over plain http: the token-less agent's request is refused, whoever's host it is."""
        self._send([(self.tenants[0], self.tenants[0].agents[1], OWN, wish, False)], cleartext=OWN_HOSTS[who])

    @rule(asks=st.lists(st.tuples(tenants, numbers, services, wishes()), min_size=2, max_size=4))
    def ask_all_at_once(self, asks: list[tuple[int, int, str, Wish]]) -> None:
        """Have several agents ask at the same time, each on a connection of its own."""
        chosen: list[tuple[Tenant, AgentModel, str, Wish]] = []
        for who, number, service, wish in asks:
            tenant, agent = self._agent(who, number)
            # What one answer changes for the next request is left to `ask`.
            is_apart = wish.plan.status not in (401, 429) and tenant.limits[service] is None
            if is_apart and not any(agent is other for _, other, *_ in chosen):
                chosen.append((tenant, agent, service, replace(self._sound(tenant, service, wish, number), keep=False)))
        # Only now: to make a later one sound may have turned on the key of an earlier one.
        batch = [(*one, one[1].is_live and one[0].expects(one[2], one[3].asked)) for one in chosen]
        if batch:
            self._send(batch)

    def teardown(self) -> None:
        """What was answered has its outcome, and nothing at rest holds a secret."""
        for tenant in self.tenants:
            for agent in tenant.agents:
                agent.program.leave()
        self.ledger.close()

    # How

    def _ask(self, who: int, number: int, service: str, wish: Wish) -> None:
        tenant, agent = self._agent(who, number)
        wish = self._sound(tenant, service, wish, number)
        expected = agent.is_live and tenant.expects(service, wish.asked)
        self._send([(tenant, agent, service, wish, expected)])
        if expected and wish.plan.status == 429 and wish.plan.retry_after_s:
            tenant.cooling.add(service)

    def _send(
        self,
        batch: Sequence[tuple[Tenant, AgentModel, str, Wish, bool]],
        *,
        authority: str | None = None,
        named: str | None = None,
        cleartext: str | None = None,
    ) -> None:
        """Send a request of each in *batch*, all at the same time, and hold what came of it against what must hold."""
        sent = []
        for tenant, agent, service, wish, expected in batch:
            number = self.office.number()
            remembered = tuple(value for key in tenant.keys.values() for value in key.in_scrub_set)
            self.house.careless.expect(number, replace(wish.plan, remembered=remembered))
            host = cleartext or authority or tenant.host_of(service)
            target = f"{wish.path}?n={number}" + "".join(
                f"&{name}={value.replace(' ', '+')}" for name, value in wish.query.items()
            )
            line = f"http://{host}{target}" if cleartext else target
            request = request_bytes(wish, line, named or host)
            sent.append(
                Sent(
                    tenant, agent, service, number, host, wish.method, target, wish.body, wish.plan, expected, request, wish.keep
                )
            )

        def send(one: Sent) -> Heard:
            if cleartext:
                return one.agent.program.ask_in_cleartext(one.request)
            return one.agent.program.ask(f"{one.host}:443", one.request, keep=one.keep)

        with ThreadPoolExecutor(len(sent)) as pool:
            heard = list(pool.map(send, sent))
        self.ledger.settle(list(zip(sent, heard, strict=True)))

    def _sound(self, tenant: Tenant, service: str, wish: Wish, number: int) -> Wish:
        """Return *wish* as an agent that read the rules has it, if it is to be sound; then a key is stored, and mostly on."""
        allowed = [asked for asked in EVERYTHING if is_allowed(tenant.rules[service], asked)] if wish.is_sound else []
        if not allowed:
            return wish
        if tenant.keys[service].value is None:
            self.office.store_key(tenant, service)
        if not tenant.keys[service].is_on and number % 2:
            self.office.switch(tenant, service, on=True)
        asked = allowed[number % len(allowed)]
        plan = replace(wish.plan, place="header") if asked.method == "HEAD" else wish.plan
        return replace(wish, method=asked.method, path=asked.path, query=dict(asked.query), body=asked.body, plan=plan)

    def _agent(self, who: int, number: int) -> tuple[Tenant, AgentModel]:
        tenant = self.tenants[who]
        return tenant, tenant.agents[number % len(tenant.agents)]
