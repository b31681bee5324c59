// Runs named scenarios with the official Go client and prints "ok NAME" or "FAIL NAME why" for each.
// The environment says where: E2E_URL (WebSocket, through the relay), E2E_API, E2E_CONTROL (the relay's), E2E_API_KEY,
// E2E_SECRET, E2E_PROTOCOL (json or protobuf). The same names exist in JavaScript and Python.
package main

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/centrifugal/centrifuge-go"
)

// patience is how long anything awaited may take.
const patience = 15 * time.Second

// values is any JSON object.
type values = map[string]any

func main() {
	failed := 0
	for _, name := range os.Args[1:] {
		if !run(name) {
			failed++
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}

func run(name string) (ok bool) {
	s := &stage{scenario: name}
	defer s.close()
	defer func() {
		if failure := recover(); failure != nil {
			fmt.Printf("FAIL %s %v\n", name, failure)
			control("heal")
		}
	}()
	scenario, known := scenarios[name]
	check(known, "unknown scenario")
	scenario(s)
	fmt.Println("ok", name)
	return true
}

// stage holds what one scenario opened, to close it afterwards.
type stage struct {
	scenario string
	clients  []*centrifuge.Client
}

func (s *stage) close() {
	for _, client := range s.clients {
		client.Close()
	}
}

// name is one that nobody else uses.
func (s *stage) name(prefix string) string {
	return fmt.Sprintf("%s-%s-%s", prefix, s.scenario, rand.Text())
}

func (s *stage) channel(namespace string) string {
	return namespace + ":" + s.name("go")
}

// connection is a client with its events, in the order in which they came.
type connection struct {
	*centrifuge.Client
	id           string
	connected    chan centrifuge.ConnectedEvent
	connecting   chan centrifuge.ConnectingEvent
	disconnected chan centrifuge.DisconnectedEvent
	subscribed   chan centrifuge.ServerSubscribedEvent
	unsubscribed chan centrifuge.ServerUnsubscribedEvent
	publications chan centrifuge.ServerPublicationEvent
}

// client is not connected yet.
func (s *stage) client(config centrifuge.Config) *connection {
	config.MinReconnectDelay = 50 * time.Millisecond
	config.MaxReconnectDelay = 200 * time.Millisecond
	config.ReadTimeout = patience
	config.HandshakeTimeout = patience
	create := centrifuge.NewJsonClient
	if os.Getenv("E2E_PROTOCOL") == "protobuf" {
		create = centrifuge.NewProtobufClient
	}
	c := &connection{
		Client:       create(os.Getenv("E2E_URL"), config),
		connected:    make(chan centrifuge.ConnectedEvent, 16),
		connecting:   make(chan centrifuge.ConnectingEvent, 1024),
		disconnected: make(chan centrifuge.DisconnectedEvent, 16),
		subscribed:   make(chan centrifuge.ServerSubscribedEvent, 16),
		unsubscribed: make(chan centrifuge.ServerUnsubscribedEvent, 16),
		publications: make(chan centrifuge.ServerPublicationEvent, 1024),
	}
	c.OnConnected(func(e centrifuge.ConnectedEvent) { c.connected <- e })
	c.OnConnecting(func(e centrifuge.ConnectingEvent) { c.connecting <- e })
	c.OnDisconnected(func(e centrifuge.DisconnectedEvent) { c.disconnected <- e })
	c.OnSubscribed(func(e centrifuge.ServerSubscribedEvent) { c.subscribed <- e })
	c.OnUnsubscribed(func(e centrifuge.ServerUnsubscribedEvent) { c.unsubscribed <- e })
	c.OnPublication(func(e centrifuge.ServerPublicationEvent) { c.publications <- e })
	s.clients = append(s.clients, c.Client)
	return c
}

func (s *stage) connect(token string) *connection {
	return s.connectWith(centrifuge.Config{Token: token})
}

func (s *stage) connectWith(config centrifuge.Config) *connection {
	c := s.client(config)
	must(c.Connect())
	c.id = take(c.connected).ClientID
	take(c.connecting)
	return c
}

// subscription is one with its events, in the order in which they came.
type subscription struct {
	*centrifuge.Subscription
	subscribed   chan centrifuge.SubscribedEvent
	unsubscribed chan centrifuge.UnsubscribedEvent
	publications chan centrifuge.PublicationEvent
	joins        chan centrifuge.JoinEvent
	leaves       chan centrifuge.LeaveEvent
}

// newSubscription is not subscribed yet.
func newSubscription(c *connection, channel string, config centrifuge.SubscriptionConfig) *subscription {
	sub, err := c.NewSubscription(channel, config)
	must(err)
	s := &subscription{
		Subscription: sub,
		subscribed:   make(chan centrifuge.SubscribedEvent, 16),
		unsubscribed: make(chan centrifuge.UnsubscribedEvent, 16),
		publications: make(chan centrifuge.PublicationEvent, 1024),
		joins:        make(chan centrifuge.JoinEvent, 1024),
		leaves:       make(chan centrifuge.LeaveEvent, 1024),
	}
	sub.OnSubscribed(func(e centrifuge.SubscribedEvent) { s.subscribed <- e })
	sub.OnUnsubscribed(func(e centrifuge.UnsubscribedEvent) { s.unsubscribed <- e })
	sub.OnPublication(func(e centrifuge.PublicationEvent) { s.publications <- e })
	sub.OnJoin(func(e centrifuge.JoinEvent) { s.joins <- e })
	sub.OnLeave(func(e centrifuge.LeaveEvent) { s.leaves <- e })
	return s
}

func subscribe(c *connection, channel string, config centrifuge.SubscriptionConfig) *subscription {
	s := newSubscription(c, channel, config)
	must(s.Subscribe())
	take(s.subscribed)
	return s
}

// numbers takes as many publications and gives the numbers in them and their offsets.
func (s *subscription) numbers(count int) (numbers, offsets []int) {
	for range count {
		publication := take(s.publications)
		numbers = append(numbers, number(publication.Publication))
		offsets = append(offsets, int(publication.Offset))
	}
	return numbers, offsets
}

// numbers takes as many publications of server-side subscriptions and gives the numbers in them.
func (c *connection) numbers(count int) (numbers []int) {
	for range count {
		numbers = append(numbers, number(take(c.publications).Publication))
	}
	return numbers
}

func number(publication centrifuge.Publication) int {
	return int(unpack(publication.Data)["n"].(float64))
}

// cut ends every connection through the relay and returns once the client has noticed.
func (s *stage) cut(c *connection) {
	control("cut")
	take(c.connecting)
}

func control(order string) {
	response, err := http.Post(os.Getenv("E2E_CONTROL")+"/"+order, "", nil)
	must(err)
	must(response.Body.Close())
}

func api(method string, body values) {
	request, err := http.NewRequest("POST", os.Getenv("E2E_API")+"/api/"+method, bytes.NewReader(pack(body)))
	must(err)
	request.Header.Set("X-API-Key", os.Getenv("E2E_API_KEY"))
	response, err := http.DefaultClient.Do(request)
	must(err)
	defer response.Body.Close()
	var reply values
	must(json.NewDecoder(response.Body).Decode(&reply))
	check(reply["result"] != nil, "%s: %v", method, reply)
}

func publishNumbers(channel string, first, last int) {
	for n := first; n <= last; n++ {
		api("publish", values{"channel": channel, "data": values{"n": n}})
	}
}

// expiry is as many seconds from now, as claims want it.
func expiry(seconds int64) int64 {
	return time.Now().Unix() + seconds
}

// token is a JWT with HS256.
func token(claims values) string {
	return tokenSignedWith(os.Getenv("E2E_SECRET"), claims)
}

func tokenSignedWith(secret string, claims values) string {
	encode := base64.RawURLEncoding.EncodeToString
	signed := encode(pack(values{"alg": "HS256", "typ": "JWT"})) + "." + encode(pack(claims))
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(signed))
	return signed + "." + encode(mac.Sum(nil))
}

func pack(value any) []byte {
	data, err := json.Marshal(value)
	must(err)
	return data
}

func unpack(data []byte) values {
	var value values
	must(json.Unmarshal(data, &value))
	return value
}

// take waits for the next event.
func take[T any](events <-chan T) T {
	select {
	case event := <-events:
		return event
	case <-time.After(patience):
		var none T
		panic(fmt.Sprintf("no %T", none))
	}
}

// takeWanted waits for the next event that is wanted and forgets the others.
func takeWanted[T any](events <-chan T, wanted func(T) bool) T {
	for {
		if event := take(events); wanted(event) {
			return event
		}
	}
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func check(holds bool, format string, details ...any) {
	if !holds {
		panic(fmt.Sprintf(format, details...))
	}
}

func equal(got, want any) {
	check(reflect.DeepEqual(got, want), "got %v, want %v", got, want)
}

// refused checks that the server answered with an error of this code.
func refused(code uint32, err error) {
	var answer *centrifuge.Error
	check(errors.As(err, &answer), "got %v, want an error of the server", err)
	equal(answer.Code, code)
}
