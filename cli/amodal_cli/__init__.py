"""The commands: parse, call one public function, print. Result on stdout, talk on stderr."""
