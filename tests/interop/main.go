// Command interop is a host made of containerd's own client code: over one ttrpc connection it opens a stream for a
// process's stdin and one for its stdout, copies its own standard input to the first and the second to its own
// standard output, and ends when the second does and the guest has answered all it was sent.
//
// It writes a line to standard error once both streams can be named in a request.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"

	"github.com/containerd/containerd/v2/core/streaming/proxy"
	"github.com/containerd/containerd/v2/core/transfer/streaming"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: interop SOCKET STDIN-STREAM STDOUT-STREAM")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, socket, stdin, stdout string) error {
	connection, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	client := ttrpc.NewClient(connection)
	defer client.Close()
	streams := proxy.NewStreamCreator(client)
	toProcess, err := streams.Create(ctx, stdin)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", stdin, err)
	}
	fromProcess, err := streams.Create(ctx, stdout)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", stdout, err)
	}
	fmt.Fprintln(os.Stderr, "open")
	streaming.SendStream(ctx, os.Stdin, toProcess)
	if _, err = io.Copy(os.Stdout, streaming.ReceiveStream(ctx, fromProcess)); err != nil {
		return err
	}
	return roundTrip(ctx, client)
}

// roundTrip waits until the guest has answered all that was sent before: its client complains of what comes for a
// stream that is over, and a grant and a close of ours cross the end of the guest's stream.
func roundTrip(ctx context.Context, client *ttrpc.Client) error {
	err := client.Call(ctx, "no.such.Service", "Method", &emptypb.Empty{}, &emptypb.Empty{})
	if status.Code(err) != codes.Unimplemented {
		return fmt.Errorf("call what is not there: %w", err)
	}
	return nil
}
