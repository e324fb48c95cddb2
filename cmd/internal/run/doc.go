// Package run is the life of a process: flags and their environment variables, signals, ordered start and stop, the
// admin server and the log.
//
// A main gives Main a function that binds flags and returns the body. The body starts parts in the order in which they
// need each other, then waits for its context. When the body returns, the parts stop in the reverse order, each within
// its own deadline, so that what others lean on ends last:
//
//	func main() { os.Exit(run.Main(run.Options{Name: "ingest", Admin: ":9090"}, setup)) }
//
//	func setup(fs *flag.FlagSet) run.Body {
//		redis := fs.String("redis", "127.0.0.1:6379", "address of Redis")
//		return func(ctx context.Context, p *run.Process) error {
//			store, err := open(ctx, *redis)
//			if err != nil {
//				return err
//			}
//			p.OnStop("store", store.Close)
//			p.Go("pipeline", store.Pump)
//			if _, err := p.Serve(ctx, "api", ":8080", handler(store)); err != nil {
//				return err
//			}
//			if _, err := p.ServeAdmin(ctx, registry, run.Check{Name: "redis", Do: store.Ping}); err != nil {
//				return err
//			}
//			return p.Wait(ctx)
//		}
//	}
package run
