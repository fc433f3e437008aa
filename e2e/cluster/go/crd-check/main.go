// crd-check judges custom resources as the API server would, without one: by the same code, of the version that the tests' cluster
// runs. CustomResourceDefinitions are judged too, the cost of their rules included.
//
//	crd-check -crds FILE-OR-DIR,... MANIFEST...     tells what is wrong with the custom resources in these manifests
//	crd-check -crds FILE -cases FILE                tells which case of the file is judged otherwise than it says
//
// A manifest's documents of other kinds, and lists of cases, are left to others. Exit code 1 where anything is told.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	crdvalidation "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/defaulting"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/listtype"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"
	"k8s.io/apimachinery/pkg/util/yaml"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

type object = map[string]any

// One version of a custom resource.
type resource struct {
	structural *schema.Structural
	schema     validation.SchemaValidator
	rules      *cel.Validator
}

// Resources by "apiVersion kind".
type resources map[string]resource

// A spec and what becomes of it.
type profileCase struct {
	Name string `json:"name"`
	Spec any    `json:"spec"`
	// What is stored, where that is not just what was written.
	Stored any `json:"stored"`
	// Of each line of the refusal, in alphabetical order: the field, and words of what is said about it.
	Refused []string `json:"refused"`
}

func main() {
	crds := flag.String("crds", "", "files or directories of CustomResourceDefinitions, with commas between them")
	cases := flag.String("cases", "", "file of cases")
	flag.Parse()
	wrong, err := run(*crds, *cases, flag.Args())
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(2)
	}
	for _, line := range wrong {
		fmt.Println(line)
	}
	if len(wrong) > 0 {
		os.Exit(1)
	}
}

func run(crds, cases string, manifests []string) ([]string, error) {
	known, wrong, err := readDefinitions(strings.Split(crds, ","))
	if err != nil || len(wrong) > 0 {
		return wrong, err
	}
	if cases != "" {
		if wrong, err = known.judgeCases(cases); err != nil {
			return nil, err
		}
	}
	for _, path := range manifests {
		err := eachDocument(path, func(document []byte) error {
			var manifest object
			if err := unmarshal(document, &manifest); err != nil {
				return err
			}
			resource, ok := known[fmt.Sprint(manifest["apiVersion"], " ", manifest["kind"])]
			if !ok {
				return nil
			}
			for _, fault := range resource.judge(manifest) {
				wrong = append(wrong, fmt.Sprintf("%s: %s %s: %s", path, manifest["kind"], name(manifest), fault))
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return wrong, nil
}

func name(manifest object) any {
	metadata, _ := manifest["metadata"].(object)
	return metadata["name"]
}

func readDefinitions(paths []string) (resources, []string, error) {
	scheme := runtime.NewScheme()
	install.Install(scheme)
	known, wrong := resources{}, []string{}
	read := func(path string) error {
		return eachDocument(path, func(document []byte) error {
			// A copy for the check, which wants what the API server would have filled in.
			var v1 apiextensionsv1.CustomResourceDefinition
			if err := yaml.UnmarshalStrict(document, &v1); err != nil {
				return err
			}
			if v1.Kind != "CustomResourceDefinition" {
				return nil
			}
			scheme.Default(&v1)
			var definition apiextensions.CustomResourceDefinition
			if err := scheme.Convert(&v1, &definition, nil); err != nil {
				return err
			}
			// What only a stored one has.
			for _, version := range definition.Spec.Versions {
				if version.Storage {
					definition.Status.StoredVersions = []string{version.Name}
				}
			}
			for _, fault := range crdvalidation.ValidateCustomResourceDefinition(context.Background(), &definition) {
				wrong = append(wrong, fmt.Sprintf("%s: %s", path, fault))
			}
			return known.add(&definition)
		})
	}
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err != nil {
			return nil, nil, err
		} else if info.IsDir() {
			files, _ = filepath.Glob(filepath.Join(path, "*.yaml"))
		}
		for _, file := range files {
			if err := read(file); err != nil {
				return nil, nil, err
			}
		}
	}
	return known, wrong, nil
}

func (known resources) add(definition *apiextensions.CustomResourceDefinition) error {
	for _, version := range definition.Spec.Versions {
		// One schema for all versions is moved up here by the conversion.
		crdSchema := definition.Spec.Validation
		if version.Schema != nil {
			crdSchema = version.Schema
		}
		structural, err := schema.NewStructural(crdSchema.OpenAPIV3Schema)
		if err != nil {
			return err
		}
		validator, _, err := validation.NewSchemaValidator(crdSchema.OpenAPIV3Schema)
		if err != nil {
			return err
		}
		key := definition.Spec.Group + "/" + version.Name + " " + definition.Spec.Names.Kind
		known[key] = resource{structural, validator, cel.NewValidator(structural, true, celconfig.PerCallLimit)}
	}
	return nil
}

// judge fills in the defaults, as the API server does before it looks, and returns what it would refuse. Unknown fields
// are told too: kubectl asks for that.
func (r resource) judge(manifest object) []string {
	var faults []string
	unknown := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(manifest, r.structural, true, unknown) {
		faults = append(faults, fmt.Sprintf("%s: unknown field", path))
	}
	defaulting.PruneNonNullableNullsWithoutDefaults(manifest, r.structural)
	defaulting.Default(manifest, r.structural)
	refused := validation.ValidateCustomResource(nil, manifest, r.schema)
	refused = append(refused, listtype.ValidateListSetsAndMaps(nil, r.structural, manifest)...)
	// As the API server does: rules are for what has the right types.
	if len(refused) == 0 && r.rules != nil {
		refused, _ = r.rules.Validate(context.Background(), nil, r.structural, manifest, nil, celconfig.RuntimeCELCostBudget)
	}
	for _, fault := range refused {
		faults = append(faults, fault.Error())
	}
	slices.Sort(faults)
	return faults
}

func (known resources) judgeCases(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var cases []profileCase
	if err := unmarshal(text, &cases); err != nil {
		return nil, fmt.Errorf("failed to read %s: %w", path, err)
	}
	var wrong []string
	for _, c := range cases {
		manifest := object{"apiVersion": "outrigger.dev/v1alpha1", "kind": "SidecarProfile", "metadata": object{"name": "case"}, "spec": c.Spec}
		faults := known["outrigger.dev/v1alpha1 SidecarProfile"].judge(manifest)
		if !told(faults, c.Refused) {
			wrong = append(wrong, fmt.Sprintf("%s: %s:\n  refused: %s", path, c.Name, strings.Join(faults, "\n           ")))
		}
		if c.Stored != nil && !reflect.DeepEqual(manifest["spec"], c.Stored) {
			wrong = append(wrong, fmt.Sprintf("%s: %s:\n  stored: %v", path, c.Name, manifest["spec"]))
		}
	}
	return wrong, nil
}

// told tells whether the faults are those of the case.
func told(faults, refused []string) bool {
	return slices.EqualFunc(faults, refused, func(fault, wanted string) bool {
		path, words, _ := strings.Cut(wanted, ": ")
		return strings.HasPrefix(fault, path+": ") && strings.Contains(fault, words)
	})
}

// unmarshal reads whole numbers as such, as the API server does, and not as floats.
func unmarshal(text []byte, into any) error {
	text, err := yaml.ToJSON(text)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

func eachDocument(path string, handle func([]byte) error) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	for {
		// The decoder hands out at most a buffer's worth of a document.
		document := make([]byte, len(text)+1)
		n, err := documents.Read(document)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("failed to read %s: %w", path, err)
		}
		if err := handle(document[:n]); err != nil {
			return fmt.Errorf("failed to read %s: %w", path, err)
		}
	}
}
