package backtest
import ("testing";"time";"fmt")
func TestZZ(t *testing.T){
 for _,idle:=range [][]Period{nil,{{3*time.Minute,33*time.Minute}}} {
 traffic:=Traffic{Requests:Constant(50),Errors:Constant(0.005),Idle:idle}
 var rb tally
 for n:=0;n<150;n++ {
  plan:=defaultPlan()
  id,sim:=trial(traffic,plan,900_000+n)
  x:=Replay(Options{Plan:plan,RunID:id,Start:t0},sim)
  rb.add(x.Ending==RolledBack)
  if x.Ending==RolledBack { fmt.Println(n,x.End.Sub(x.Start),x.Reason,x.Message,x.Findings[0].LogHarm) }
 }
 fmt.Println(rb)
 }
}
