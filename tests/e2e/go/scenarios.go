package main

import (
	"context"
	"strconv"
	"strings"

	"github.com/centrifugal/centrifuge-go"
)

// plain subscribes without options.
var plain = centrifuge.SubscriptionConfig{}

// background is for calls that the client's own timeout ends.
var background = context.Background()

var scenarios = map[string]func(*stage){
	"connect_anonymous":        connectAnonymous,
	"connect_token":            connectToken,
	"connect_wrong_token":      connectWrongToken,
	"receive":                  receive,
	"publish":                  publish,
	"recover":                  recoverMissed,
	"recover_too_late":         recoverTooLate,
	"history":                  history,
	"presence":                 presence,
	"join_leave":               joinLeave,
	"rpc_error":                rpcError,
	"unknown_channel":          unknownChannel,
	"permission_denied":        permissionDenied,
	"subscription_token":       subscriptionToken,
	"unsubscribe":              unsubscribe,
	"disconnect_terminal":      disconnectTerminal,
	"disconnect_reconnect":     disconnectReconnect,
	"connect_expired_token":    connectExpiredToken,
	"token_refresh":            tokenRefresh,
	"server_side_subscription": serverSideSubscription,
	"api_subscribe":            apiSubscribe,
	"delta":                    delta,
	"tags_filter":              tagsFilter,
	"spread":                   spread,
}

func connectAnonymous(s *stage) {
	check(s.connect("").id != "", "no client id")
}

func connectToken(s *stage) {
	c := s.connect(token(values{"sub": "ada"}))
	sub := subscribe(c, s.channel("chat"), plain)
	result, err := sub.Presence(background)
	must(err)
	equal(len(result.Clients), 1)
	equal(result.Clients[c.id].User, "ada")
}

func connectWrongToken(s *stage) {
	c := s.client(centrifuge.Config{Token: tokenSignedWith("another secret", values{"sub": "ada"})})
	must(c.Connect())
	equal(take(c.disconnected).Code, uint32(3500))
}

func receive(s *stage) {
	channel := s.channel("chat")
	sub := subscribe(s.connect(""), channel, plain)
	data := values{
		"text": "h\u00e9llo \u2713 \"quoted\"", "number": 1.5, "list": []any{1.0, values{"a": nil}}, "empty": values{},
	}
	api("publish", values{"channel": channel, "data": data, "tags": values{"lang": "fr"}})
	publication := take(sub.publications)
	equal(unpack(publication.Data), data)
	equal(publication.Tags, map[string]string{"lang": "fr"})
	equal(publication.Offset, uint64(1))
}

func publish(s *stage) {
	channel := s.channel("chat")
	one, two := s.connect(token(values{"sub": "ada"})), s.connect("")
	first, second := subscribe(one, channel, plain), subscribe(two, channel, plain)
	wanted := []int{}
	for n := range 10 {
		_, err := first.Publish(background, pack(values{"n": n}))
		must(err)
		wanted = append(wanted, n)
	}
	numbers, _ := first.numbers(10)
	equal(numbers, wanted)
	received := take(second.publications)
	equal(received.Info.Client, one.id)
	equal(received.Info.User, "ada")
	numbers, _ = second.numbers(9)
	equal(numbers, wanted[1:])
}

func recoverMissed(s *stage) {
	channel := s.channel("chat")
	c := s.connect("")
	sub := subscribe(c, channel, plain)
	publishNumbers(channel, 1, 2)
	sub.numbers(2)
	s.cut(c)
	publishNumbers(channel, 3, 7)
	control("heal")
	subscribed := take(sub.subscribed)
	check(subscribed.WasRecovering && subscribed.Recovered, "not recovered: %+v", subscribed)
	publishNumbers(channel, 8, 8)
	numbers, offsets := sub.numbers(6)
	equal(numbers, []int{3, 4, 5, 6, 7, 8})
	equal(offsets, []int{3, 4, 5, 6, 7, 8})
}

func recoverTooLate(s *stage) {
	channel := s.channel("short")
	c := s.connect("")
	sub := subscribe(c, channel, plain)
	publishNumbers(channel, 1, 1)
	sub.numbers(1)
	s.cut(c)
	publishNumbers(channel, 2, 10)
	control("heal")
	subscribed := take(sub.subscribed)
	check(subscribed.WasRecovering && !subscribed.Recovered, "recovered: %+v", subscribed)
	publishNumbers(channel, 11, 11)
	takeWanted(sub.publications, func(p centrifuge.PublicationEvent) bool { return number(p.Publication) == 11 })
}

func history(s *stage) {
	channel := s.channel("chat")
	sub := subscribe(s.connect(""), channel, plain)
	publishNumbers(channel, 1, 5)
	numbers := func(options ...centrifuge.HistoryOption) []int {
		result, err := sub.History(background, options...)
		must(err)
		equal(result.Offset, uint64(5))
		found := []int{}
		for _, publication := range result.Publications {
			found = append(found, number(publication))
		}
		return found
	}
	limit, reverse := centrifuge.WithHistoryLimit, centrifuge.WithHistoryReverse
	equal(numbers(limit(3)), []int{1, 2, 3})
	equal(numbers(limit(-1)), []int{1, 2, 3, 4, 5})
	equal(numbers(), []int{})
	top, err := sub.History(background)
	must(err)
	check(top.Epoch != "", "no epoch")
	since := func(offset uint64, epoch string) centrifuge.HistoryOption {
		return centrifuge.WithHistorySince(&centrifuge.StreamPosition{Offset: offset, Epoch: epoch})
	}
	equal(numbers(limit(10), since(2, top.Epoch)), []int{3, 4, 5})
	equal(numbers(limit(2), reverse(true)), []int{5, 4})
	equal(numbers(limit(10), since(4, top.Epoch), reverse(true)), []int{3, 2, 1})
	_, err = sub.History(background, limit(1), since(2, "other"))
	refused(112, err)
}

func presence(s *stage) {
	channel := s.channel("chat")
	users := map[string]string{}
	var sub *subscription
	for _, user := range []string{"ada", "ada", "bob"} {
		c := s.connect(token(values{"sub": user, "info": values{"name": user}}))
		sub = subscribe(c, channel, plain)
		users[c.id] = user
	}
	result, err := sub.Presence(background)
	must(err)
	equal(len(result.Clients), 3)
	for id, user := range users {
		equal(result.Clients[id].User, user)
		equal(unpack(result.Clients[id].ConnInfo), values{"name": user})
	}
	stats, err := sub.PresenceStats(background)
	must(err)
	equal(stats.PresenceStats, centrifuge.PresenceStats{NumClients: 3, NumUsers: 2})
}

func joinLeave(s *stage) {
	channel := s.channel("chat")
	watcher := s.connect("")
	sub := subscribe(watcher, channel, centrifuge.SubscriptionConfig{JoinLeave: true})
	c := s.connect(token(values{"sub": "bob"}))
	subscribe(c, channel, plain)
	joined := takeWanted(sub.joins, func(e centrifuge.JoinEvent) bool { return e.User == "bob" })
	equal(joined.Client, c.id)
	must(c.Disconnect())
	left := takeWanted(sub.leaves, func(e centrifuge.LeaveEvent) bool { return e.User == "bob" })
	equal(left.Client, c.id)
	result, err := sub.Presence(background)
	must(err)
	equal(len(result.Clients), 1)
	equal(result.Clients[watcher.id].Client, watcher.id)
}

func rpcError(s *stage) {
	_, err := s.connect("").RPC(background, "nothing", pack(values{}))
	refused(108, err)
}

func unknownChannel(s *stage) {
	sub := newSubscription(s.connect(""), s.channel("nowhere"), plain)
	must(sub.Subscribe())
	equal(take(sub.unsubscribed).Code, uint32(102))
}

func permissionDenied(s *stage) {
	channel := s.channel("private")
	c := s.connect(token(values{"sub": "ada"}))
	sub := newSubscription(c, channel, plain)
	must(sub.Subscribe())
	equal(take(sub.unsubscribed).Code, uint32(103))
	_, err := c.Publish(background, channel, pack(values{}))
	refused(103, err)
	_, err = c.Presence(background, channel)
	refused(108, err)
}

func subscriptionToken(s *stage) {
	channel := s.channel("private")
	c := s.connect(token(values{"sub": "ada"}))
	right := centrifuge.SubscriptionConfig{Token: token(values{"sub": "ada", "channel": channel})}
	sub := subscribe(c, channel, right)
	publishNumbers(channel, 1, 1)
	sub.numbers(1)
	other := newSubscription(c, s.channel("private"), right)
	must(other.Subscribe())
	equal(take(c.disconnected).Code, uint32(3500))
}

func unsubscribe(s *stage) {
	channel := s.channel("chat")
	c, witness := s.connect(token(values{"sub": "ada"})), s.connect("")
	sub := subscribe(c, channel, plain)
	other := subscribe(witness, channel, centrifuge.SubscriptionConfig{JoinLeave: true})
	must(sub.Unsubscribe())
	take(sub.unsubscribed)
	takeWanted(other.leaves, func(e centrifuge.LeaveEvent) bool { return e.User == "ada" })
	publishNumbers(channel, 1, 1)
	other.numbers(1)
	_, err := c.PresenceStats(background, channel)
	must(err)
	equal(len(sub.publications), 0)
	must(sub.Subscribe())
	take(sub.subscribed)
	api("unsubscribe", values{"channel": channel, "user": "ada"})
	equal(take(sub.unsubscribed).Code, uint32(2000))
}

func disconnectTerminal(s *stage) {
	user := s.name("user")
	c := s.connect(token(values{"sub": user}))
	api("disconnect", values{"user": user})
	equal(take(c.disconnected).Code, uint32(3503))
}

func disconnectReconnect(s *stage) {
	user, channel := s.name("user"), s.channel("chat")
	c := s.connect(token(values{"sub": user}))
	sub := subscribe(c, channel, plain)
	api("disconnect", values{"user": user, "disconnect": values{"code": 4001, "reason": "come back"}})
	equal(take(c.connecting), centrifuge.ConnectingEvent{Code: 4001, Reason: "come back"})
	take(c.connected)
	take(sub.subscribed)
	publishNumbers(channel, 1, 1)
	sub.numbers(1)
}

func connectExpiredToken(s *stage) {
	asked := 0
	s.connectWith(centrifuge.Config{
		Token: token(values{"sub": "ada", "exp": expiry(-60)}),
		GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
			asked++
			return token(values{"sub": "ada", "exp": expiry(60)}), nil
		},
	})
	equal(asked, 1)
}

func tokenRefresh(s *stage) {
	channel := s.channel("private")
	connection, subscription := make(chan string, 64), make(chan string, 64)
	c := s.connectWith(centrifuge.Config{
		GetToken: func(centrifuge.ConnectionTokenEvent) (string, error) {
			connection <- "asked"
			return token(values{"sub": "ada", "exp": expiry(3)}), nil
		},
	})
	sub := subscribe(c, channel, centrifuge.SubscriptionConfig{
		GetToken: func(centrifuge.SubscriptionTokenEvent) (string, error) {
			subscription <- "asked"
			return token(values{"sub": "ada", "channel": channel, "exp": expiry(3)}), nil
		},
	})
	for range 3 {
		take(connection)
		take(subscription)
	}
	publishNumbers(channel, 1, 1)
	sub.numbers(1)
	equal(len(c.connecting), 0)
	equal(len(sub.subscribed), 0)
}

func serverSideSubscription(s *stage) {
	channel := s.channel("chat")
	c := s.connect(token(values{"sub": "ada", "channels": []string{channel}}))
	equal(take(c.subscribed).Channel, channel)
	publishNumbers(channel, 1, 2)
	equal(c.numbers(2), []int{1, 2})
	s.cut(c)
	publishNumbers(channel, 3, 5)
	control("heal")
	subscribed := take(c.subscribed)
	check(subscribed.WasRecovering && subscribed.Recovered, "not recovered: %+v", subscribed)
	publishNumbers(channel, 6, 6)
	equal(c.numbers(4), []int{3, 4, 5, 6})
}

func apiSubscribe(s *stage) {
	user, channel := s.name("user"), s.channel("chat")
	c := s.connect(token(values{"sub": user}))
	api("subscribe", values{"user": user, "channel": channel})
	equal(take(c.subscribed).Channel, channel)
	publishNumbers(channel, 1, 1)
	equal(c.numbers(1), []int{1})
	api("unsubscribe", values{"user": user, "channel": channel})
	equal(take(c.unsubscribed).Channel, channel)
}

func delta(s *stage) {
	channel := s.channel("delta")
	c := s.connect("")
	sub := subscribe(c, channel, centrifuge.SubscriptionConfig{Delta: centrifuge.DeltaTypeFossil})
	text := strings.Repeat("the quick brown fox jumps over the lazy dog ", 20)
	document := func(n int) values {
		return values{"n": float64(n), "text": text, "last": float64(n * n)}
	}
	publishDocuments := func(first, last int) {
		for n := first; n <= last; n++ {
			api("publish", values{"channel": channel, "data": document(n)})
		}
	}
	seen := func(first, last int) {
		for n := first; n <= last; n++ {
			equal(unpack(take(sub.publications).Data), document(n))
		}
	}
	publishDocuments(1, 5)
	seen(1, 5)
	s.cut(c)
	publishDocuments(6, 9)
	control("heal")
	check(take(sub.subscribed).Recovered, "not recovered")
	publishDocuments(10, 12)
	seen(6, 12)
}

func tagsFilter(s *stage) {
	channel := s.channel("tags")
	filtered := func(filter *centrifuge.FilterNode) *subscription {
		return subscribe(s.connect(""), channel, centrifuge.SubscriptionConfig{TagsFilter: filter})
	}
	french := filtered(centrifuge.FilterEq("lang", "fr"))
	dear := filtered(centrifuge.FilterGt("price", "9.5"))
	all := filtered(nil)
	for n := 1; n <= 20; n++ {
		tags := values{"lang": []string{"en", "fr"}[n%2], "price": strconv.Itoa(n)}
		api("publish", values{"channel": channel, "data": values{"n": n}, "tags": tags})
	}
	all.numbers(20)
	numbers, _ := french.numbers(10)
	equal(numbers, []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19})
	numbers, _ = dear.numbers(11)
	equal(numbers, []int{10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20})
}

func spread(s *stage) {
	channel := s.channel("chat")
	receivers, wanted := []*subscription{}, []int{}
	for range 32 {
		receivers = append(receivers, subscribe(s.connect(""), channel, plain))
	}
	publishNumbers(channel, 1, 20)
	for n := range 20 {
		wanted = append(wanted, n+1)
	}
	for _, receiver := range receivers {
		numbers, _ := receiver.numbers(20)
		equal(numbers, wanted)
	}
	stats, err := receivers[0].PresenceStats(background)
	must(err)
	equal(stats.NumClients, 32)
}
