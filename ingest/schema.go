package ingest

import (
	"fmt"
	"math"
	"strconv"
)

// Signal is one measured quantity: its COVESA VSS path, unit and range.
type Signal struct {
	// Path is the VSS path, branch Vehicle.OBD (standard catalogue up to 5.x, an overlay from 6.0).
	Path string
	// Aliases are other VSS paths of the same quantity in the same unit.
	Aliases []string
	// Column is the name that recorded trips and the features of models use.
	Column string
	// Unit is written as VSS and the trips write it, for messages and for a sender that states its unit.
	Unit string
	// Min and Max bound the value, both inclusive. They are what the OBD-II PID (mode 01) can express.
	Min, Max float64
}

// Schema is the set of signals that a vehicle may send. It is immutable.
type Schema struct {
	signals []Signal
	byPath  map[string]int
	byName  map[string]int
	quoted  []string // "path": as JSON
}

// NewSchema refuses signals without a path, with an empty range, or with a name that another one has.
func NewSchema(signals []Signal) (*Schema, error) {
	s := &Schema{signals: signals, byPath: map[string]int{}, byName: map[string]int{}}
	for i, sig := range signals {
		if sig.Path == "" || !(sig.Min < sig.Max) {
			return nil, fmt.Errorf("reading signal %d %q: expected a path and a range", i, sig.Path)
		}
		for _, p := range append([]string{sig.Path}, sig.Aliases...) {
			if _, twice := s.byPath[p]; twice {
				return nil, fmt.Errorf("reading signal %d: path %q is there twice", i, p)
			}
			s.byPath[p] = i
		}
		if _, twice := s.byName[sig.Column]; twice {
			return nil, fmt.Errorf("reading signal %d: column %q is there twice", i, sig.Column)
		}
		s.byName[sig.Column] = i
		s.quoted = append(s.quoted, strconv.Quote(sig.Path)+":")
	}
	return s, nil
}

// Len is the number of signals, and of values in a record.
func (s *Schema) Len() int { return len(s.signals) }

// Signal returns signal i.
func (s *Schema) Signal(i int) Signal { return s.signals[i] }

// Lookup finds a signal by VSS path, alias or column name.
func (s *Schema) Lookup(name string) (int, bool) {
	if i, ok := s.byPath[name]; ok {
		return i, true
	}
	i, ok := s.byName[name]
	return i, ok
}

// Empty returns a record's values with nothing measured.
func (s *Schema) Empty() []float64 {
	v := make([]float64, len(s.signals))
	for i := range v {
		v[i] = math.NaN()
	}
	return v
}

// AppendJSON appends the measured values as a flat JSON object, path by path in the schema's order.
func (s *Schema) AppendJSON(dst []byte, values []float64) []byte {
	dst = append(dst, '{')
	sep := false
	for i, v := range values {
		if math.IsNaN(v) {
			continue
		}
		if sep {
			dst = append(dst, ',')
		}
		dst = append(dst, s.quoted[i]...)
		dst = strconv.AppendFloat(dst, v, 'f', -1, 64)
		sep = true
	}
	return append(dst, '}')
}

// OBD is the schema of what an OBD-II logger reports, bounded by what each PID (mode 01) can express: one byte as a
// percentage is A*100/255, a fuel trim A*100/128-100, a temperature A-40, and so on.
func OBD() (*Schema, error) {
	const trimMax = 255*100.0/128 - 100 // 99.21875
	return NewSchema([]Signal{
		{"Vehicle.OBD.RunTime", nil, "ENGINE_RUN_TIME", "s", 0, 65535},
		{"Vehicle.OBD.EngineSpeed", []string{"Vehicle.Powertrain.CombustionEngine.Speed"}, "ENGINE_RPM", "rpm", 0, 16383.75},
		{"Vehicle.OBD.Speed", []string{"Vehicle.Speed"}, "VEHICLE_SPEED", "km/h", 0, 255},
		{"Vehicle.OBD.ThrottlePosition", []string{"Vehicle.Powertrain.CombustionEngine.TPS"}, "THROTTLE", "percent", 0, 100},
		{"Vehicle.OBD.EngineLoad", nil, "ENGINE_LOAD", "percent", 0, 100},
		{
			"Vehicle.OBD.CoolantTemperature",
			[]string{"Vehicle.Powertrain.CombustionEngine.EngineCoolant.Temperature"},
			"COOLANT_TEMPERATURE", "Celsius", -40, 215,
		},
		{"Vehicle.OBD.LongTermFuelTrim1", nil, "LONG_TERM_FUEL_TRIM_BANK_1", "percent", -100, trimMax},
		{"Vehicle.OBD.ShortTermFuelTrim1", nil, "SHORT_TERM_FUEL_TRIM_BANK_1", "percent", -100, trimMax},
		{"Vehicle.OBD.MAP", []string{"Vehicle.Powertrain.CombustionEngine.MAP"}, "INTAKE_MANIFOLD_PRESSURE", "kPa", 0, 255},
		{"Vehicle.OBD.FuelLevel", nil, "FUEL_TANK_LEVEL", "percent", 0, 100},
		{"Vehicle.OBD.ThrottlePositionB", nil, "ABSOLUTE_THROTTLE_B", "percent", 0, 100},
		{"Vehicle.OBD.AcceleratorPositionD", nil, "ACCELERATOR_PEDAL_D", "percent", 0, 100},
		{"Vehicle.OBD.AcceleratorPositionE", nil, "ACCELERATOR_PEDAL_E", "percent", 0, 100},
		{"Vehicle.OBD.ThrottleActuator", nil, "COMMANDED_THROTTLE_ACTUATOR", "percent", 0, 100},
		{"Vehicle.OBD.CommandedEquivalenceRatio", nil, "FUEL_AIR_COMMANDED_EQUIV_RATIO", "ratio", 0, 2},
		{"Vehicle.OBD.BarometricPressure", nil, "ABSOLUTE_BAROMETRIC_PRESSURE", "kPa", 0, 255},
		{"Vehicle.OBD.RelativeThrottlePosition", nil, "RELATIVE_THROTTLE_POSITION", "percent", 0, 100},
		{"Vehicle.OBD.IntakeTemp", nil, "INTAKE_AIR_TEMPERATURE", "Celsius", -40, 215},
		{"Vehicle.OBD.TimingAdvance", nil, "TIMING_ADVANCE", "degrees", -64, 63.5},
		{"Vehicle.OBD.Catalyst.Bank1.Temperature1", nil, "CATALYST_TEMPERATURE_BANK1_SENSOR1", "Celsius", -40, 6513.5},
		{"Vehicle.OBD.Catalyst.Bank1.Temperature2", nil, "CATALYST_TEMPERATURE_BANK1_SENSOR2", "Celsius", -40, 6513.5},
		{"Vehicle.OBD.ControlModuleVoltage", nil, "CONTROL_MODULE_VOLTAGE", "V", 0, 65.535},
		{"Vehicle.OBD.CommandedEVAP", nil, "COMMANDED_EVAPORATIVE_PURGE", "percent", 0, 100},
		{"Vehicle.OBD.RunTimeMIL", nil, "TIME_RUN_WITH_MIL_ON", "min", 0, 65535},
		{"Vehicle.OBD.TimeSinceDTCCleared", nil, "TIME_SINCE_TROUBLE_CODES_CLEARED", "min", 0, 65535},
		{"Vehicle.OBD.DistanceWithMIL", nil, "DISTANCE_TRAVELED_WITH_MIL_ON", "km", 0, 65535},
		{"Vehicle.OBD.WarmupsSinceDTCClear", nil, "WARM_UPS_SINCE_CODES_CLEARED", "count", 0, 255},
	})
}
