// Starts Swagger UI, and shows the code samples (x-codeSamples) above each operation's answers.
"use strict";

const CodeSamples = (system) => {
  const React = system.React;

  const Samples = ({ samples }) => {
    const [chosen, choose] = React.useState(0);
    const button = (sample, index) => React.createElement(
      "button",
      { key: sample.label, type: "button", "aria-pressed": index === chosen, onClick: () => choose(index) },
      sample.label,
    );
    return React.createElement(
      "div",
      { className: "samples" },
      React.createElement("h4", null, "Code samples"),
      React.createElement("div", null, samples.map(button)),
      React.createElement("pre", null, samples[chosen].source),
    );
  };

  const withSamples = (Original) => (props) => {
    const operation = system.specSelectors.specJson().getIn(["paths", props.path, props.method]);
    const samples = operation && operation.get("x-codeSamples");
    return React.createElement(
      React.Fragment,
      null,
      samples && React.createElement(Samples, { samples: samples.toJS() }),
      React.createElement(Original, props),
    );
  };

  return { wrapComponents: { responses: withSamples } };
};

window.ui = SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  filter: true,
  docExpansion: new URLSearchParams(location.search).get("expand") || "list",
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
  plugins: [CodeSamples],
});
