// Package importer holds a test alone: that modules which import this one, and
// have nothing of its clone, can build and run it. `make test-long` runs it; it
// needs the build tag "long".
package importer
